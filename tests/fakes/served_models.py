"""Served models whose clock and runs a test drives by hand, and a service manager that keeps what it is told."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, Deque, List, Tuple

import numpy as np

from edge_runtime.engine.engine import EngineInfo
from edge_runtime.errors import QueueFullError
from edge_runtime.plan.golden import Golden
from edge_runtime.scheduling.request import Request
from edge_runtime.server.models import ModelTable
from edge_runtime.server.service_manager import ServiceManager
from edge_runtime.server.under_way import UnderWay

INPUTS = {"x": np.ones((1, 4), np.float32)}
RIGHT = {"y": np.ones((1, 4), np.float32)}
WRONG = {"y": np.zeros((1, 4), np.float32)}


class Clock:
    """Seconds, as nanoseconds too."""

    def __init__(self) -> None:
        self.s = 100.0

    def ns(self) -> int:
        return round(self.s * 1e9)


class DrivenModel:
    """A model that runs what was submitted when it is told to."""

    def __init__(self, name: str, clock: Clock, device: str = "cpu", has_golden: bool = True, key: str = "") -> None:
        self.name, self.key, self.version = name, key or name, "3"
        self.golden = Golden(INPUTS, RIGHT, "made up") if has_golden else None
        self.engine = SimpleNamespace(info=EngineInfo(name, 3, "made up", "made_up", "int8", device), keeper=None)
        self.statistics = SimpleNamespace(last_run_ns=0)
        self.home = self.place = object()
        self.under_way = UnderWay()
        self.now_ns = clock.ns
        self.pending = 0
        self.queue_size = 8
        self.longest_run_ns = 10_000_000
        self.is_retired = False
        self.is_refusing = False
        self.asked: Deque[Request] = deque()

    def rows_of(self, inputs: Any) -> int:
        return len(inputs["x"])

    def submit(self, request: Request) -> None:
        if self.is_refusing:
            raise QueueFullError("the queue is full")
        self.asked.append(request)

    def answer(self, outputs: Any = RIGHT) -> None:
        """Runs the golden run that was asked for first, with these outputs or this error."""
        request = self.asked.popleft()
        request.emit(outputs if isinstance(outputs, Exception) else request.encode(outputs))

    def serves_a_client(self) -> None:
        """Says that a client's run has just ended."""
        self.statistics.last_run_ns = self.now_ns()


class ListeningManager(ServiceManager):
    """Keeps each message, as its fields."""

    def __init__(self, watchdog_s: float | None = 10.0) -> None:
        super().__init__("@nobody", watchdog_s)
        self.told: List[Tuple[str, str]] = []

    def _tell(self, **values: object) -> None:
        self.told += [(name, str(value)) for name, value in values.items()]

    @property
    def signs(self) -> int:
        """Signs of life so far."""
        return self.told.count(("WATCHDOG", "1"))


def table_of(*models: Any) -> ModelTable:
    """A table that is ready."""
    table = ModelTable(models)
    table.is_ready = True
    return table
