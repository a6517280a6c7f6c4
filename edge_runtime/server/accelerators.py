"""Who runs what: one dispatcher for each accelerator, with the models that run on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Callable, Dict, List, NamedTuple

from edge_runtime.engine.engine import Engine
from edge_runtime.engine.golden_run import verified_golden
from edge_runtime.plan.golden import Golden
from edge_runtime.plan.serving import ServingTable
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.server.dispatcher import Dispatcher
from edge_runtime.server.models import ServedModel
from edge_runtime.server.places import Place
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.statistics import ModelStatistics
from edge_runtime.server.warm_up import Measured, measure
from edge_runtime.server.work import Work
from edge_runtime.wire.inference import NO_HURRY, Schedule

CPU = "cpu"


class Prepared(NamedTuple):
    """A warmed engine, what was measured of it, how its model wants to be served, and what it answers to one input."""

    engine: Engine
    measured: Measured
    serving: ServingTable = ServingTable()
    golden: Golden | None = None


def prepared(engine: Engine, serving: ServingTable, golden: Golden | None = None) -> Prepared:
    """An engine ready to be served, once it has repeated its golden run and some of its runs have been timed.

    Any thread may call it.

    Raises:
        GoldenRunError: it answers otherwise than its plan did when it was built.
    """
    repeated = verified_golden(engine, golden)
    is_batching = serving.batching == "on"
    if serving.batching == "auto":
        is_batching = engine.info.device != CPU  # on a CPU a run of n takes n times as long
    return Prepared(engine, measure(engine, is_batching), serving, repeated)


class Accelerators:
    """One dispatcher for each accelerator that models run on, whose threads `close` ends; used on the loop's thread.

    A CPU runs as many at once as the first of its models with the most slots have, and the loop's thread beside them.
    Another accelerator runs one at a time; further slots let the next run's copies overlap it. `on_failure` is called
    as `Dispatcher` says.
    """

    def __init__(self, settings: ServerSettings, on_failure: Callable[[], object] | None = None) -> None:
        self._settings = settings
        self._on_failure = on_failure
        self._by_device: Dict[str, Dispatcher] = {}
        self._members: Dict[str, Prepared] = {}
        self._loads: Dict[str, int] = {}

    def add(self, *members: Prepared) -> List[ServedModel]:
        """The models, ready to be asked."""
        for device in {member.engine.info.device: None for member in members}:
            if device not in self._by_device:
                depth = max(each.engine.slot_count for each in members if each.engine.info.device == device)
                is_cpu = device == CPU
                self._by_device[device] = Dispatcher(ServiceTimes(), depth if is_cpu else 1, depth, is_cpu)
                self._by_device[device].on_failure = self._on_failure
        return [self._served(member) for member in members]

    async def remove(self, model: ServedModel) -> None:
        """Forgets a model that takes no requests any more, once none of its is under way."""
        await self._by_device[model.engine.info.device].remove(model.key)
        del self._members[model.key]

    def rung(self, model: ServedModel, below: ServedModel, statistics: ModelStatistics) -> Place:
        """The engine of `below` as a place for requests to `model`: with a queue, run times and counters of its own."""
        member, dispatcher = self._members[below.key], below.home.dispatcher
        policy = replace(below.home.work.policy, name=self._fresh(f"{model.key} on {below.key}"))
        work = _added(Work(below.engine, statistics, policy), member.measured, dispatcher)
        return Place(work, dispatcher, f"{below.name}/{below.version}")

    def fail(self) -> None:
        """Says that something failed that nothing here survives."""
        if self._on_failure is not None:
            self._on_failure()

    def relearn(self) -> None:
        """Says that runs take another time from now on."""
        for dispatcher in self._by_device.values():
            dispatcher.relearn()

    async def close(self, timeout_s: float) -> bool:
        """Gives up what waits; False if a run was still under way after `timeout_s`."""
        return all(await asyncio.gather(*(each.close(timeout_s) for each in self._by_device.values())))

    def _fresh(self, name: str) -> str:
        """A key that no load before had."""
        self._loads[name] = count = self._loads.get(name, 0) + 1
        return name if count == 1 else f"{name} (load {count})"

    def _served(self, member: Prepared) -> ServedModel:
        key = self._fresh(member.engine.info.name)
        self._members[key] = member
        return _served(key, member, self._by_device[member.engine.info.device], self._settings.queue_size)


def _served(key: str, member: Prepared, dispatcher: Dispatcher, queue_size: int) -> ServedModel:
    engine, measured, serving, golden = member
    policy = ModelPolicy(
        name=key,
        slots=engine.slot_count,
        queue_size=queue_size,
        max_batch=engine.signature.max_batch_size if measured.has_independent_rows else 0,
        segments=engine.segment_count,
    )
    work = _added(Work(engine, ModelStatistics(), policy), measured, dispatcher)
    model = ServedModel(work, dispatcher, golden=golden)
    serve_as(model, serving)
    return model


def serve_as(model: ServedModel, serving: ServingTable) -> None:
    """Lets a model be served so from its next request on."""
    budget_ns = None if serving.deadline_ms is None else round(serving.deadline_ms * 1e6)
    model.usual = Schedule(serving.priority, budget_ns) if serving.priority or budget_ns else NO_HURRY
    model.is_pinned = serving.pinned
    model.serving = serving


def _added(work: Work, measured: Measured, dispatcher: Dispatcher) -> Work:
    """Makes a dispatcher know what it runs, and how long that takes."""
    for time in measured.times:
        dispatcher.times.seed(work.name, time.segment, time.rows, time.longest_ns)
        work.usual_ns[time.rows] = time.usual_ns
    dispatcher.add(work)
    return work
