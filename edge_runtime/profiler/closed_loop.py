"""Closed-loop load: every caller sends its next call when the last one is answered."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, List, Protocol

from edge_runtime.evaluation.latency import Clock

_REPORTS = 100


class Progress(Protocol):
    """Receives the stages of a benchmark; any thread may call `advance`."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of `total` steps begins (None: unknown)."""

    def advance(self, steps: int = 1) -> None:
        """Steps of the stage under way are done."""


@dataclass(frozen=True)
class LoopLimits:
    """When the loop ends: after `n` calls, or once `duration_s` is over."""

    n: int
    concurrency: int = 1
    duration_s: float | None = None


@dataclass(frozen=True)
class LoopTimes:
    """One duration a call, and the whole loop's, in nanoseconds."""

    durations_ns: List[int]
    elapsed_ns: int


def closed_loop(
    call: Callable[[], object],
    limits: LoopLimits,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
) -> LoopTimes:
    """The times of `call`, made by `concurrency` threads (by the caller's own if that is 1), at least once.

    The first error of any caller ends the loop and is raised here.
    """
    start_ns = clock()
    end_ns = None if limits.duration_s is None else start_ns + round(limits.duration_s * 1e9)
    loop = _Loop(call, limits.n, end_ns, progress, clock)
    rows = [loop.run()] if limits.concurrency == 1 else loop.run_threads(limits.concurrency)
    return LoopTimes([duration for row in rows for duration in row], clock() - start_ns)


class _Loop:
    """What the callers share: numbered tickets, the end, and whether one of them failed."""

    def __init__(
        self, call: Callable[[], object], n: int, end_ns: int | None, progress: Progress | None, clock: Clock
    ) -> None:
        self._call = call
        self._n = n
        self._end_ns = end_ns
        self._progress = progress
        self._clock = clock
        self._tickets = itertools.count()
        self._stop = threading.Event()

    def run_threads(self, count: int) -> List[List[int]]:
        with ThreadPoolExecutor(count, "bench") as pool:
            try:
                return [future.result() for future in [pool.submit(self.run) for _ in range(count)]]
            finally:
                self._stop.set()

    def run(self) -> List[int]:
        call, clock, step = self._call, self._clock, max(1, self._n // _REPORTS)
        durations: List[int] = []
        try:
            while not self._stop.is_set():
                ticket = next(self._tickets)
                start_ns = clock()
                if ticket >= self._n or (ticket and self._end_ns is not None and start_ns >= self._end_ns):
                    break
                call()
                durations.append(clock() - start_ns)
                if self._progress is not None and ticket % step == step - 1:
                    self._progress.advance(step)
        finally:
            self._stop.set()
        return durations
