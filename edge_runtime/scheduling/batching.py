"""How many of those that may share a run go along with the first."""

from __future__ import annotations

from typing import Callable, Iterable, List, Sequence, Tuple

from edge_runtime.scheduling.forecast import PLANS, Late, Situation, late, least_late, plans
from edge_runtime.scheduling.job import Job

Allows = Callable[[int], bool]


def companions(head: Job, candidates: Iterable[Job]) -> List[Job]:
    """The head and those of its group, in order, as many as the rows of a run allow."""
    members, left = [head], head.model.max_batch - head.rows
    for job in candidates:
        if job.group == head.group and job is not head and job.segment == 0:
            if job.rows > left:
                break
            members.append(job)
            left -= job.rows
    return members


def harm(situation: Situation, jobs: Sequence[Job], baseline: Callable[[], Late], new: Job | None = None) -> Late:
    """Who among `jobs` misses, by the best of the plans; empty if by one of them all do that do so by `baseline` too.

    `new` isn't part of the baseline.
    """
    outcomes: List[Late] = []
    for limit in plans(situation, jobs):
        found = late(situation, jobs, limit)
        if not found:
            return found
        outcomes.append(found)
    if new is None or any(new.key not in found for found in outcomes):
        before = baseline().keys()
        if any(found.keys() <= before for found in outcomes):
            return {}
    return min(outcomes, key=len)


class Growth:
    """Tries how many of `members` may share a run without anybody missing a deadline that is kept otherwise.

    `run` is the lane and when its run starts; `waiting` is everyone with a deadline that waits, in order, members too.
    """

    def __init__(self, members: List[Job], run: Tuple[int, int], situation: Situation, waiting: Sequence[Job]) -> None:
        self._members = members
        self._lane, self._start_ns = run
        self._situation = situation
        self._waiting = waiting
        self._alone: Late | None = None

    def largest(self, allows: Allows) -> List[Job]:
        """The longest run that does no harm, found by halving; `allows` may forbid one by when it ends.

        Those with a deadline come first among the members; it may be that all of them must share the run.
        """
        members = self._members
        urgent = sum([job.is_urgent for job in members])
        planned = {min(urgent, limit) for limit in PLANS}  # of one of the plans it is known that it does no harm
        for count in sorted({len(members), *planned} - {0, 1}, reverse=True):
            if self._fits(count, allows):
                return members[: self._between(count, len(members), allows)]
        return members[: self._between(1, min(planned - {0, 1}, default=len(members)), allows)]

    def _between(self, low: int, high: int, allows: Allows) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(middle, allows):
                low = middle
            else:
                high = middle
        return low

    def _end_ns(self, count: int) -> int:
        return self._start_ns + self._members[0].model.rest_ns(sum([job.rows for job in self._members[:count]]))

    def _fits(self, count: int, allows: Allows) -> bool:
        members = self._members[:count]
        end_ns = self._end_ns(count)
        if not allows(end_ns):
            return False
        if any(end_ns > job.deadline_ns and job.key not in self._baseline() for job in members):
            return False
        keys = {job.key for job in members}
        rest = [job for job in self._waiting if job.key not in keys]
        return not harm(self._situation.after(self._lane, members[0].model, end_ns), rest, self._baseline)

    def _baseline(self) -> Late:
        """Who is late anyway, by the better plan for all that have a deadline."""
        if self._alone is None:
            self._alone = least_late(self._situation, self._waiting)
        return self._alone
