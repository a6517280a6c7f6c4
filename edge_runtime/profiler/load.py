"""Load on a staged call: callers that wait for their answers, or arrivals that come whether answered or not."""

from __future__ import annotations

import itertools
import threading
import time
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Deque, List, MutableSequence, Protocol, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.device.run_delay import UNKNOWN, RunDelay
from edge_runtime.errors import ConfigError
from edge_runtime.profiler.calls import CallTable
from edge_runtime.profiler.closed_loop import Progress
from edge_runtime.profiler.settings import MOST_CALLS
from edge_runtime.profiler.stages import ARRIVAL, END, READY, START, WAITED, WIDTH

Clock = Callable[[], int]

_REPORTS = 100
_CHUNK_ROWS = 4096
_LONG_QUEUE = 200
_LONG_WAIT_NS = (1_000_000_000, 10_000_000_000)
_FEWEST_SERVED, _RECENT = 5, 64


class StampingCall(Protocol):
    """A call that writes its stamps from `START` to `END` behind `at`."""

    def __call__(self, stamps: MutableSequence[int], at: int) -> None:
        """One call."""


@dataclass(frozen=True)
class Load:
    """Until when `concurrency` callers call: `n` calls, or `duration_s`.

    With `rate_per_s` calls are due at random moments (Poisson, by `seed`), and each caller takes the next one.
    """

    n: int
    concurrency: int = 1
    duration_s: float | None = None
    rate_per_s: float | None = None
    seed: int = 0

    @property
    def most_calls(self) -> int:
        """How many calls there can be."""
        return self.n if self.duration_s is None else MOST_CALLS

    def arrivals_ns(self) -> array[int] | None:
        """When each call is due, in nanoseconds from the start; None if callers go at their own pace."""
        if self.rate_per_s is None:
            return None
        rng = np.random.default_rng(self.seed)
        count = self.n if self.duration_s is None else round(self.rate_per_s * self.duration_s)
        count += 0 if self.duration_s is None else round(6 * count**0.5) + 10  # so that they reach past the end
        due = np.cumsum(rng.exponential(1e9 / self.rate_per_s, count)).astype(np.int64)
        if self.duration_s is not None:
            due = due[due < self.duration_s * 1e9]
        return array("q", due.tobytes())

    def checked_arrivals_ns(self) -> array[int] | None:
        """When each call is due, and that there is one.

        Raises:
            ConfigError: none is due in that time at this rate.
        """
        due = self.arrivals_ns()
        if due is not None and not due:
            raise ConfigError(
                f"rate {self.rate_per_s:g} calls/s for {self.duration_s:g} s: no call is due in that time; "
                f"measure for {10 / (self.rate_per_s or 1):g} s or longer"
            )
        return due


@dataclass(frozen=True)
class LoadTimes:
    """The calls, and the whole load's begin and end. `offered` are the calls that were due by then.

    `is_overloaded`: it was stopped, for calls came faster than they were answered.
    """

    calls: CallTable
    start_ns: int
    end_ns: int
    offered: int
    is_overloaded: bool = False

    @property
    def elapsed_ns(self) -> int:
        """How long it took."""
        return self.end_ns - self.start_ns

    def capacity_per_s(self, concurrency: int) -> float:
        """The rate at which so many callers would be busy all the time, a single stall left out."""
        return concurrency * 1e9 / max(_usual_ns(self.calls.service_ns), 1.0)


class _Rows:
    """The stamps of one caller; they grow by whole chunks, so that no call waits for old ones to be copied."""

    def __init__(self) -> None:
        self._chunks: List[array[int]] = []
        self.count = 0

    def next(self) -> Tuple[array[int], int]:
        row = self.count % _CHUNK_ROWS
        if row == 0:
            self._chunks.append(array("q", bytes(8 * WIDTH * _CHUNK_ROWS)))
        self.count += 1
        return self._chunks[-1], row * WIDTH

    def table(self) -> npt.NDArray[np.int64]:
        parts = [np.frombuffer(chunk, np.int64) for chunk in self._chunks]
        flat = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return flat.reshape(-1, WIDTH)[: self.count]


def run_load(
    call: StampingCall,
    load: Load,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
    wait: Callable[[float], object] | None = None,
    tells_submission: bool = False,
) -> LoadTimes:
    """The stamps of every call, made by `concurrency` threads (by the caller's own if that is 1), one at least.

    `wait` waits so many seconds for the next arrival. The first error of any caller ends the load and is raised here.
    """
    callers = _Callers(call, load, progress, clock, wait)
    tables = [callers.run()] if load.concurrency == 1 else callers.run_threads()
    end_ns = clock()
    stamps = np.concatenate(tables)
    numbers = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
    order = np.argsort(stamps[:, ARRIVAL], kind="stable")
    calls = CallTable(stamps[order], numbers[order], tells_submission)
    return LoadTimes(calls, callers.start_ns, end_ns, callers.offered(end_ns, len(calls)), callers.is_overloaded)


class _Callers:
    """What the callers share: numbered tickets, when each is due, the end, and whether one of them failed."""

    def __init__(
        self,
        call: StampingCall,
        load: Load,
        progress: Progress | None,
        clock: Clock,
        wait: Callable[[float], object] | None,
    ) -> None:
        self._call = call
        self._load = load
        self._progress = progress
        self._clock = clock
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._tickets = itertools.count()
        self._arrivals = load.checked_arrivals_ns()
        self._n = load.most_calls if self._arrivals is None else len(self._arrivals)
        self.is_overloaded = False
        self.start_ns = clock()
        duration_ns = None if load.duration_s is None else round(load.duration_s * 1e9)
        self._end_ns = None if duration_ns is None or self._arrivals is not None else self.start_ns + duration_ns

    def offered(self, end_ns: int, completed: int) -> int:
        """The calls that were due by the end."""
        if self._arrivals is None:
            return completed
        return int(np.searchsorted(np.frombuffer(self._arrivals, np.int64), end_ns - self.start_ns, "right"))

    def run_threads(self) -> List[npt.NDArray[np.int64]]:
        count = self._load.concurrency
        with ThreadPoolExecutor(count, "profile") as pool:
            try:
                return [future.result() for future in [pool.submit(self.run) for _ in range(count)]]
            finally:
                self._stop.set()

    def run(self) -> npt.NDArray[np.int64]:
        rows = _Rows()
        try:
            with RunDelay() as delay:
                self._serve(rows, delay)
        finally:
            self._stop.set()
        return rows.table()

    def _serve(self, rows: _Rows, delay: RunDelay) -> None:
        call, clock, step = self._call, self._clock, max(1, self._n // _REPORTS)
        served_ns: Deque[int] = deque(maxlen=_RECENT)
        waited_ns = delay.read_ns()
        while not self._stop.is_set():
            ticket, ready_ns = next(self._tickets), clock()
            due_ns = self._due(ticket, ready_ns)
            if due_ns is None:
                break
            stamps, at = rows.next()
            stamps[at + READY] = ready_ns
            call(stamps, at)
            start_ns, end_ns = stamps[at + START], stamps[at + END]
            stamps[at + ARRIVAL] = start_ns if self._arrivals is None else due_ns
            before_ns, waited_ns = waited_ns, delay.read_ns()
            stamps[at + WAITED] = UNKNOWN if UNKNOWN in (before_ns, waited_ns) else waited_ns - before_ns
            served_ns.append(end_ns - start_ns)
            if self._is_hopeless(start_ns - due_ns, served_ns):
                self.is_overloaded = True
                break
            if self._progress is not None and ticket % step == step - 1:
                self._progress.advance(step)

    def _due(self, ticket: int, now_ns: int) -> int | None:
        """When a call is due, which is waited for; None after the last one."""
        if ticket >= self._n or (ticket and self._end_ns is not None and now_ns >= self._end_ns):
            return None
        if self._arrivals is None:
            return now_ns
        due_ns = self.start_ns + self._arrivals[ticket]
        while now_ns < due_ns:
            self._wait((due_ns - now_ns) / 1e9)
            if self._stop.is_set():
                return None
            now_ns = self._clock()
        return due_ns

    def _is_hopeless(self, waited_ns: int, served_ns: Sequence[int]) -> bool:
        """Whether a long queue has grown, and this caller's last calls took too long to make it shorter."""
        rate_per_s, callers = self._load.rate_per_s, self._load.concurrency
        if rate_per_s is None or waited_ns < _LONG_WAIT_NS[0] or len(served_ns) < _FEWEST_SERVED:
            return False
        long_ns = min(max(_LONG_QUEUE * 1e9 / rate_per_s, _LONG_WAIT_NS[0]), _LONG_WAIT_NS[1])
        return waited_ns > long_ns and _usual_ns(np.array(served_ns)) * rate_per_s > callers * 1e9


def _usual_ns(durations_ns: npt.NDArray[Any]) -> float:
    """The mean without the slowest hundredth, one at least where there are several."""
    slowest = -(-len(durations_ns) // 100) if len(durations_ns) > 1 else 0
    return float(np.sort(durations_ns)[: len(durations_ns) - slowest].mean())
