"""Who runs what: one dispatcher for each accelerator, with the models that run on it."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from edge_runtime.engine.engine import Engine
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.server.dispatcher import Dispatcher
from edge_runtime.server.models import ServedModel
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.statistics import ModelStatistics
from edge_runtime.server.warm_up import Measured
from edge_runtime.server.work import Work

CPU = "cpu"

Prepared = Tuple[Engine, Measured]


def is_batching(engine: Engine, settings: ServerSettings) -> bool:
    """Whether an engine's requests may share runs, if its rows are independent of each other."""
    if settings.batching == "auto":
        return engine.info.device != CPU  # on a CPU a run of n takes n times as long
    return settings.batching == "on"


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
        depth = max(engine.slot_count for engine, _ in members)
        is_cpu = device == CPU
        dispatchers.append(Dispatcher(ServiceTimes(), depth if is_cpu else 1, depth, is_cpu))
        models += [_served(engine, measured, dispatchers[-1], settings) for engine, measured in members]
    return models, dispatchers


def _served(engine: Engine, measured: Measured, dispatcher: Dispatcher, settings: ServerSettings) -> ServedModel:
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
    budget_ns = None if settings.deadline_ms is None else round(settings.deadline_ms * 1e6)
    return ServedModel(work, dispatcher, budget_ns)
