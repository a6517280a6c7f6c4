"""Who runs what: one dispatcher for each accelerator, with the models that run on it."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence, Tuple

from edge_runtime.engine.engine import Engine
from edge_runtime.plan.serving import ServingTable
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.server.dispatcher import Dispatcher
from edge_runtime.server.models import ServedModel
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.statistics import ModelStatistics
from edge_runtime.server.warm_up import Measured, measure
from edge_runtime.server.work import Work
from edge_runtime.wire.inference import NO_HURRY, Schedule

CPU = "cpu"


class Prepared(NamedTuple):
    """A warmed engine, what was measured of it, and how its model wants to be served."""

    engine: Engine
    measured: Measured
    serving: ServingTable = ServingTable()


def prepared(engine: Engine, serving: ServingTable) -> Prepared:
    """An engine ready to be served, once some of its runs have been timed; any thread may call it."""
    is_batching = serving.batching == "on"
    if serving.batching == "auto":
        is_batching = engine.info.device != CPU  # on a CPU a run of n takes n times as long
    return Prepared(engine, measure(engine, is_batching), serving)


def dispatch(prepared: Sequence[Prepared], settings: ServerSettings) -> Tuple[List[ServedModel], List[Dispatcher]]:
    """The models ready to be asked, and the dispatchers that run them, whose threads are the caller's to close.

    A CPU runs as many at once as the model with the most slots has, and the loop's thread beside them. Another
    accelerator runs one at a time; further slots let the next run's copies overlap it. Call it on the loop's thread.
    """
    by_device: Dict[str, List[Prepared]] = {}
    for each in prepared:
        by_device.setdefault(each[0].info.device, []).append(each)
    models: List[ServedModel] = []
    dispatchers: List[Dispatcher] = []
    for device, members in by_device.items():
        depth = max(engine.slot_count for engine, _, __ in members)
        is_cpu = device == CPU
        dispatchers.append(Dispatcher(ServiceTimes(), depth if is_cpu else 1, depth, is_cpu))
        models += [_served(member, dispatchers[-1], settings) for member in members]
    return models, dispatchers


def _served(member: Prepared, dispatcher: Dispatcher, settings: ServerSettings) -> ServedModel:
    engine, measured, serving = member
    policy = ModelPolicy(
        name=engine.info.name,
        slots=engine.slot_count,
        queue_size=settings.queue_size,
        max_batch=engine.signature.max_batch_size if measured.has_independent_rows else 0,
        segments=engine.segment_count,
    )
    work = Work(engine, ModelStatistics(), policy)
    for time in measured.times:
        dispatcher.times.seed(policy.name, time.segment, time.rows, time.longest_ns)
        work.usual_ns[time.rows] = time.usual_ns
    dispatcher.add(work)
    budget_ns = None if serving.deadline_ms is None else round(serving.deadline_ms * 1e6)
    usual = Schedule(serving.priority, budget_ns) if serving.priority or budget_ns else NO_HURRY
    return ServedModel(work, dispatcher, usual)
