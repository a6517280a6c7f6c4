"""What the server does now: one record for all who watch, made from counters and from what they were a while ago."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

from edge_runtime import __version__
from edge_runtime.server.board import BoardReading
from edge_runtime.server.live.board_record import board_record
from edge_runtime.server.live.windows import LEVELS, NEEDED, History, Sums
from edge_runtime.server.memory.told import memory_record
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.server.statistics import ModelStatistics


class Snapshots:
    """Makes records; used on the loop's thread.

    Args:
        clock: ns, monotonic.
    """

    def __init__(self, models: ModelTable, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._models = models
        self._clock = clock
        self._begun_ns = clock()
        self._histories: Dict[ModelStatistics, History] = {}

    def take(self, board: BoardReading) -> Dict[str, Any]:
        """The record now; durations of requests in ms. What can't be known is None.

        A model's windows are of what `take` saw: they are empty where it wasn't called for a while.
        """
        now_ns = self._clock()
        served = {model.statistics for model in self._models}
        self._histories = {key: history for key, history in self._histories.items() if key in served}
        return {
            "server": {
                "version": __version__,
                "ready": not self._models.problem(),
                "problem": self._models.problem(),
                "memory": None if self._models.ledger is None else memory_record(self._models.ledger),
                "uptime_s": (now_ns - self._begun_ns) // 1_000_000_000,
            },
            "board": board_record(board),
            "needed": {f"p{level:g}": NEEDED[level] for level in LEVELS},
            "models": [self._of_model(model, now_ns) for model in self._models],
        }

    def _of_model(self, model: ServedModel, now_ns: int) -> Dict[str, Any]:
        needs = {} if self._models.ledger is None else self._models.ledger.held
        need = needs.get(model.name)
        info, counted = model.engine.info, model.statistics.counted
        sums, deadline_ns = Sums.of(counted), model.deadline_ns(None, None, 0)
        history = self._histories.setdefault(model.statistics, History())
        history.add(now_ns, sums)
        return {
            "name": model.name,
            "version": model.version,
            "state": "unavailable" if self._models.problem(model.name) else "ready",
            "precision": info.precision,
            "backend": info.backend,
            "device": info.device,
            "at_once": model.engine.slot_count,
            "deadline_ms": None if deadline_ns is None else deadline_ns / 1e6,
            "busy_s": sum(sum(times_ns) for _, *times_ns in counted.totals.batches.values()) / 1e9,
            "late": counted.totals.late,
            "waiting": model.pending,
            "remark": self._models.remark(model.name),
            "memory_nbytes": None if need is None else need.nbytes,
            "memory_is_measured": None if need is None else need.is_measured,
            "ladder": None if model.ladder is None else model.ladder().record(),
            "total": sums.record(),
            "windows": history.records(),
        }
