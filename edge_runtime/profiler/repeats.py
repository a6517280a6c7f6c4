"""One of several repeats of a benchmark: its calls, and how fast the machine was around each of them."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Callable, List, Tuple

from edge_runtime.evaluation.latency import Clock
from edge_runtime.profiler.closed_loop import LoopLimits, Progress, closed_loop
from edge_runtime.profiler.yardstick import Yardstick

_READ_EVERY_NS = 2_000_000  # of a call that is shorter, several are between two readings
_READINGS_AT_AN_END = 20


@dataclass(frozen=True)
class Repeat:
    """The timed calls after one loading, in nanoseconds.

    `elapsed_ns` is the whole of them without the yardstick's readings. `yardstick_ns` has for each call the slower of
    the readings before and after it, in their order, and 0 where the kernel took the core away in between; of several
    callers at once, the readings at either end instead.
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
    while left and (not durations or end_ns is None or clock() < end_ns):
        taken = _preemptions()
        block = closed_loop(call, LoopLimits(min(left, 10_000), 1, _READ_EVERY_NS / 1e9), None, clock)
        following = yardstick.read(clock)
        count = len(block.durations_ns)
        durations += block.durations_ns
        near += [max(reading, following) if _preemptions() == taken else 0] * count
        elapsed_ns, left, reading = elapsed_ns + sum(block.durations_ns), left - count, following
        if progress is not None:
            progress.advance(count)
    return Repeat(tuple(durations), elapsed_ns, tuple(near))


def _preemptions() -> int:
    """How often another process was given a core that this one was using."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
