"""Where requests of one model may run: its own engine, or that of a rung below it."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

from edge_runtime.scheduling.request import Request
from edge_runtime.server.dispatcher import Dispatcher
from edge_runtime.server.statistics import ModelStatistics, RunTimes
from edge_runtime.server.work import Work


class Place(NamedTuple):
    """An engine, and the dispatcher of its accelerator; `label` is NAME/VERSION of a rung, "" for a model's own."""

    work: Work
    dispatcher: Dispatcher
    label: str = ""


class Routes:
    """Hands each request to the dispatcher of the place that it was made for; by the keys of the places."""

    def __init__(self, dispatchers: Mapping[str, Dispatcher]) -> None:
        self._dispatchers = dispatchers

    def submit(self, request: Request) -> None:
        """As of `Dispatcher`."""
        self._dispatchers[request.model].submit(request)

    def cancel(self, request: Request) -> bool:
        """As of `Dispatcher`."""
        return self._dispatchers[request.model].cancel(request)

    def runs_here(self, request: Request) -> bool:
        """As of `Dispatcher`."""
        return self._dispatchers[request.model].runs_here(request)


class RungStatistics(ModelStatistics):
    """Counters of what one model did in one place, all of which `whole` counts too; any thread may add to them."""

    def __init__(self, whole: ModelStatistics) -> None:
        super().__init__()
        self._whole = whole

    def add_run(self, times: RunTimes, arrivals_ns: Sequence[int], rows: int, wall_ms: int) -> None:
        """As of `ModelStatistics`."""
        super().add_run(times, arrivals_ns, rows, wall_ms)
        self._whole.add_run(times, arrivals_ns, rows, wall_ms)

    def add_failure(self, reason: str, duration_ns: int) -> None:
        """As of `ModelStatistics`."""
        super().add_failure(reason, duration_ns)
        self._whole.add_failure(reason, duration_ns)

    def add_late(self, count: int = 1) -> None:
        """As of `ModelStatistics`."""
        super().add_late(count)
        self._whole.add_late(count)
