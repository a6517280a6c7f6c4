"""The most requests that anybody could answer in time who knew the whole trace from the start."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple


def most_in_time(jobs: Sequence[Tuple[int, int, int]]) -> int:
    """How many of some (arrival, duration, deadline) can be kept on one lane, one after the other; up to about 15 jobs.

    For each set of jobs it finds when the lane can be done with them at the earliest, all in time and in any order;
    leaving the lane idle to wait for a job is allowed.
    """
    earliest: List[Optional[int]] = [None] * (1 << len(jobs))
    earliest[0] = 0
    most = 0
    for chosen, free in enumerate(earliest):
        if free is None:
            continue
        most = max(most, bin(chosen).count("1"))
        for index, (arrival, duration, deadline) in enumerate(jobs):
            end = max(free, arrival) + duration
            following = chosen | 1 << index
            known = earliest[following]
            if not chosen >> index & 1 and end <= deadline and (known is None or end < known):
                earliest[following] = end
    return most
