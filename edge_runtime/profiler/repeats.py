"""One of several repeats of a benchmark: its calls, and how fast the machine was around each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Tuple

from edge_runtime.device.run_delay import RunDelay
from edge_runtime.evaluation.latency import Clock
from edge_runtime.profiler.closed_loop import LoopLimits, Progress, closed_loop
from edge_runtime.profiler.yardstick import Yardstick

_READ_EVERY_NS = 2_000_000  # of a call that is shorter, several are between two readings
_READINGS_AT_AN_END = 20
_MOST_IN_A_BLOCK = 10_000
_MOST_WAITED = 0.05  # of a block's time for a core, up to which its calls count as left in peace


@dataclass(frozen=True)
class Repeat:
    """The timed calls after one loading, in nanoseconds.

    `elapsed_ns` is the whole of them without the yardstick's readings. `yardstick_ns` has for each call the slower of
    the readings before and after it, in their order, and 0 where the caller had to wait for a core in between; of
    several callers at once, the readings at either end instead.
    """

    durations_ns: Tuple[int, ...]
    elapsed_ns: int
    yardstick_ns: Tuple[int, ...] = ()


def plain_repeat(call: Callable[[], object], limits: LoopLimits, progress: Progress | None, clock: Clock) -> Repeat:
    """The calls alone."""
    times = closed_loop(call, limits, progress, clock)
    return Repeat(tuple(times.durations_ns), times.elapsed_ns)


def watched_repeat(call: Callable[[], object], limits: LoopLimits, progress: Progress | None, clock: Clock) -> Repeat:
    """The calls with the yardstick read in between: after each of one caller that takes 2 ms or more."""
    yardstick = Yardstick()
    yardstick.read(clock)
    if limits.concurrency == 1:
        return _alternating(call, limits, progress, clock, yardstick)
    before = [yardstick.read(clock) for _ in range(_READINGS_AT_AN_END)]
    times = closed_loop(call, limits, progress, clock)
    after = [yardstick.read(clock) for _ in range(_READINGS_AT_AN_END)]
    return Repeat(tuple(times.durations_ns), times.elapsed_ns, (*before, *after))


def _alternating(
    call: Callable[[], object], limits: LoopLimits, progress: Progress | None, clock: Clock, yardstick: Yardstick
) -> Repeat:
    end_ns = None if limits.duration_s is None else clock() + round(limits.duration_s * 1e9)
    durations: List[int] = []
    near: List[int] = []
    elapsed_ns, left, reading = 0, limits.n, yardstick.read(clock)
    with RunDelay() as delay:
        while left and (not durations or end_ns is None or clock() < end_ns):
            waited_ns = delay.read_ns()
            block = closed_loop(call, LoopLimits(min(left, _MOST_IN_A_BLOCK), 1, _READ_EVERY_NS / 1e9), None, clock)
            took_ns, count = sum(block.durations_ns), len(block.durations_ns)
            is_interrupted = delay.read_ns() - waited_ns > _MOST_WAITED * took_ns
            following = yardstick.read(clock)
            durations += block.durations_ns
            near += [0 if is_interrupted else max(reading, following)] * count
            elapsed_ns, left, reading = elapsed_ns + took_ns, left - count, following
            if progress is not None:
                progress.advance(count)
    return Repeat(tuple(durations), elapsed_ns, tuple(near))
