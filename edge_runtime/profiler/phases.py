"""The phases of a profile, one after the other: idle, cold, warming up, timed."""

from __future__ import annotations

import contextlib
import gc
import time
from array import array
from dataclasses import dataclass
from typing import Callable, Iterator, List, Sequence

from edge_runtime.device.run_delay import RunDelay
from edge_runtime.device.telemetry.sample import Stamped
from edge_runtime.profiler.board import BoardFacts, WatchedBoard
from edge_runtime.profiler.closed_loop import Progress
from edge_runtime.profiler.cpu_watch import CpuUse, CpuWatch
from edge_runtime.profiler.gc_watch import GcPause, GcWatch
from edge_runtime.profiler.load import Load, LoadTimes, run_load
from edge_runtime.profiler.settings import ProfileSettings
from edge_runtime.profiler.settling import Settling, settling
from edge_runtime.profiler.staged_call import StagedCall
from edge_runtime.profiler.stages import END, START, WIDTH

Clock = Callable[[], int]
Wait = Callable[[float], object]

_STAMPS = END - START + 1
_COST_ROUNDS = 200


@dataclass(frozen=True)
class Timed:
    """The timed phase: its calls, and what was watched meanwhile; `samples` begin and end a little outside of it."""

    load: LoadTimes
    pauses: Sequence[GcPause]
    cpu: CpuUse | None
    samples: Sequence[Stamped]
    board: BoardFacts


@dataclass(frozen=True)
class StampingCost:
    """What measuring costs each call, in microseconds: within its latency, and between it and the next one."""

    within_us: float
    between_us: float


class Phases:
    """Runs the phases on one call; `clock` counts nanoseconds, `wait` waits seconds while the board idles.

    Raises:
        ConfigError: no call is due in the timed phase.
    """

    def __init__(
        self,
        call: StagedCall,
        settings: ProfileSettings,
        board: WatchedBoard,
        progress: Progress | None,
        clock: Clock,
        wait: Wait = time.sleep,
    ) -> None:
        self._call = call
        self._settings = settings
        self._timed = Load(settings.n, settings.concurrency, settings.duration_s, settings.rate_per_s, settings.seed)
        self._timed.checked_arrivals_ns()
        self._board = board
        self._progress = progress
        self._clock = clock
        self._wait = wait

    def idle(self) -> List[Stamped]:
        """The samples of an idle time, the plan loaded; none where the board's power isn't known anyway."""
        if not self._board.tells_power(self._wait) or not self._settings.baseline_s:
            return []
        self._stage("idle baseline", round(self._settings.baseline_s))
        start_ns, left_s = self._clock(), self._settings.baseline_s
        while left_s > 0:
            self._wait(min(left_s, 1.0))
            left_s -= 1.0
            if self._progress is not None:
                self._progress.advance()
        return self._board.between(start_ns, self._clock())

    def first_ms(self) -> float:
        """What the first call takes."""
        stamps = array("q", bytes(8 * WIDTH))
        self._call(stamps, 0)
        return (stamps[END] - stamps[START]) / 1e6

    def warm_up(self) -> Settling:
        """How the calls after the first one settle."""
        count = self._settings.warm_up
        self._stage("warm-up", count)
        return settling(self._run(Load(count, self._settings.concurrency)).calls.latency_ns)

    def timed(self) -> Timed:
        """The timed calls, watched."""
        settings = self._settings
        self._stage("timing", None if settings.duration_s is not None else settings.n)
        with _frozen(), GcWatch(self._clock) as collections, CpuWatch(self._clock) as cpu:
            times = self._run(self._timed)
        margin_s = 2 * self._board.interval_s
        if self._board.sampler is not None:
            self._wait(margin_s)  # for the sample that tells of the last calls
        margin_ns = round(margin_s * 1e9)
        samples = self._board.between(times.start_ns - margin_ns, times.end_ns + margin_ns)
        return Timed(times, collections.pauses, cpu.use(), samples, self._board.facts(times.start_ns))

    def stamping_cost(self) -> StampingCost:
        """What the stamps themselves take, the best of many rounds."""
        clock, stamps = self._clock, array("q", bytes(8 * WIDTH))

        def stamp() -> None:
            for place in range(START, START + _STAMPS):
                stamps[place] = clock()

        with RunDelay() as delay:
            return StampingCost(_cost_us(stamp, clock), _cost_us(delay.read_ns, clock))

    def _run(self, load: Load) -> LoadTimes:
        return run_load(self._call, load, self._progress, self._clock, tells_submission=self._call.tells_submission)

    def _stage(self, name: str, total: int | None) -> None:
        if self._progress is not None:
            self._progress.stage(name, total)


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """Collections look only at what is made from now on, as in a server that has started."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _cost_us(step: Callable[[], object], clock: Clock) -> float:
    rounds: List[int] = []
    for _ in range(_COST_ROUNDS):
        start_ns = clock()
        step()
        rounds.append(clock() - start_ns)
    return min(rounds) / 1e3
