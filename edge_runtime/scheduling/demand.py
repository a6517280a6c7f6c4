"""Whether declared periodic streams fit on one lane, whenever their requests come.

The test is the one for sporadic tasks under non-preemptive EDF: Jeffay, Stanat & Martel, "On non-preemptive scheduling
of periodic and sporadic tasks", RTSS 1991 (deadlines equal to periods), and George, Rivierre & Spuri, "Preemptive and
non-preemptive real-time uniprocessor scheduling", INRIA RR-2966, 1996 (any deadlines). It is exact for whole numbers.
The sum of C / D is none: a lane may be blocked by a run that has just begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heapreplace
from math import ceil, gcd
from typing import Optional, Sequence

_STEPS = 2_000  # deadlines looked at, at most


@dataclass(frozen=True)
class Task:
    """Runs of at most `cost_ns` that come at least `period_ns` apart, each to be done `deadline_ns` later.

    `block_ns` is how long one holds the lane at a stretch, if it is a chain; else `cost_ns`.
    """

    cost_ns: int
    period_ns: int
    deadline_ns: int
    block_ns: Optional[int] = None

    @property
    def longest_ns(self) -> int:
        """How long the lane is held at a stretch."""
        return self.cost_ns if self.block_ns is None else self.block_ns


def room_ns(tasks: Sequence[Task]) -> Optional[int]:
    """How long a run of something else may hold the lane and all tasks still keep their deadlines; None: they don't.

    None too where that can't be shown within 2,000 deadlines, as it is when they leave almost nothing. For each time t
    from the start of a busy stretch, the runs due by t and one that is due later and began just before must fit in t:
    sum(max(0, (t - D) // T + 1) * C) + max(C - 1, of those with D > t) <= t. Beyond the bound below it always holds.
    """
    load = sum((Fraction(task.cost_ns, task.period_ns) for task in tasks), Fraction(0))
    if load > 1:
        return None
    events = [(task.deadline_ns, index) for index, task in enumerate(tasks)]
    heapify(events)
    late_starters = sorted(tasks, key=lambda task: task.deadline_ns)
    demand, least = 0, tasks[0].deadline_ns
    for _ in range(_STEPS):
        time_ns = events[0][0]
        while events[0][0] == time_ns:
            index = events[0][1]
            demand += tasks[index].cost_ns
            heapreplace(events, (time_ns + tasks[index].period_ns, index))
        while late_starters and late_starters[0].deadline_ns <= time_ns:
            late_starters.pop(0)
        spare = time_ns - demand
        if spare < max([task.longest_ns - 1 for task in late_starters], default=0):
            return None
        least = min(least, spare)
        if not late_starters and events[0][0] > _bound_ns(tasks, load, least):
            return least + 1
    return None


def _bound_ns(tasks: Sequence[Task], load: Fraction, room: int) -> int:
    """From here on the demand leaves `room`: it is at most load * t + sum(C * max(0, 1 - D / T)) for every t.

    At a load of 1 the demand repeats after the hyperperiod instead, from the last first deadline on.
    """
    if load == 1:
        return max(task.deadline_ns for task in tasks) + _hyperperiod_ns(tasks)
    ahead = sum(Fraction(task.cost_ns * max(0, task.period_ns - task.deadline_ns), task.period_ns) for task in tasks)
    return ceil((room + ahead) / (1 - load))


def _hyperperiod_ns(tasks: Sequence[Task]) -> int:
    period = 1
    for task in tasks:
        period *= task.period_ns // gcd(period, task.period_ns)
    return period
