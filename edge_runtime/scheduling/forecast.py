"""When everything that waits would be done, by worst times and in the order in which it would run."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Deque, Dict, Hashable, List, Sequence, Set, Tuple

from edge_runtime.scheduling.job import NEVER, Job, Key, Model

Late = Dict[Key, int]
_FEW = 48
_MOST = 1024  # jobs of streams: a forecast ends even if they leave no gap
ENDLESS: Key = (0, 0, 0)  # late where it does
PLANS = (1, NEVER, 4, 2)  # how many requests share a run at most, in the order in which plans are tried


class Situation:
    """What a forecast starts from.

    Attributes:
        free: when each lane can take its next run.
        held: of models whose slots may run out before the lanes do: when those end that are taken by a last run.
        begun: of such models, how many chains hold a slot and go on.
        coming: jobs that can't start yet, each with when it can: what is left of running chains.
        streams: the earliest next job of each declared stream with its earliest start and its period.
    """

    __slots__ = ("begun", "coming", "free", "held", "streams")

    def __init__(self, free: List[int]) -> None:
        self.free = free
        self.held: Dict[Model, List[int]] = {}
        self.begun: Dict[Model, int] = {}
        self.coming: List[Tuple[int, Job]] = []
        self.streams: List[Tuple[int, int, Job]] = []

    def after(self, lane: int, model: Model, free_ns: int) -> Situation:
        """The same with a further run of a model on one lane."""
        changed = Situation(list(self.free))
        changed.free[lane] = free_ns
        changed.held, changed.begun = self.held, self.begun
        changed.coming, changed.streams = self.coming, self.streams
        if model in self.held:
            changed.held = {**self.held, model: [*self.held[model], free_ns]}
        return changed


def late(situation: Situation, jobs: Sequence[Job], limit: int = 1) -> Late:
    """By how much each job misses its deadline, if any does, when nothing else arrives.

    `jobs` may all start and are in their order. Each run takes as many of its group along as it can, up to `limit`.
    """
    if len(situation.free) > 1 or situation.coming or situation.streams:
        is_plain = len(situation.free) == 1 and limit == 1 and not situation.held and not situation.coming
        return _late_beside_streams(situation, jobs) if is_plain else _Forecast(situation, jobs, limit).run()
    if limit > 1:
        return _late_in_batches(situation.free[0], jobs, limit)
    found: Late = {}
    end_ns = situation.free[0]
    for job in jobs:
        end_ns += job.cost_ns
        if end_ns > job.deadline_ns:
            found[job.key] = end_ns - job.deadline_ns
    return found


def least_late(situation: Situation, jobs: Sequence[Job]) -> Late:
    """Who is late by the best of the plans."""
    best = late(situation, jobs)
    for limit in plans(situation, jobs)[1:] if best else ():
        best = min(best, late(situation, jobs, limit), key=len)
    return best


def plans(situation: Situation, jobs: Sequence[Job]) -> Sequence[int]:
    """How many may share a run by the plans that are worth trying; fewer plans for many jobs, to bound the time.

    Beside declared streams no promise counts on shared runs, as streams may leave no room for longer runs.
    """
    if situation.streams or not any(job.group is not None for job in jobs):
        return PLANS[:1]
    return PLANS if len(jobs) <= _FEW else PLANS[:2]


def _late_in_batches(end_ns: int, jobs: Sequence[Job], limit: int) -> Late:
    found: Late = {}
    groups = _by_group(jobs)
    for job in jobs:
        members = [job]
        if job.group is not None:
            group = groups[job.group]
            if not group or group[0] is not job:
                continue  # it went along with one before it
            members = _batch(group, limit)
        if len(members) == 1:
            end_ns += job.cost_ns
            if end_ns > job.deadline_ns:
                found[job.key] = end_ns - job.deadline_ns
            continue
        end_ns += job.model.rest_ns(sum([each.rows for each in members]))
        for each in members:
            if end_ns > each.deadline_ns:
                found[each.key] = end_ns - each.deadline_ns
    return found


def _by_group(jobs: Sequence[Job]) -> Dict[Hashable, Deque[Job]]:
    groups: Dict[Hashable, Deque[Job]] = {}
    for job in jobs:
        if job.group is not None:
            if job.group in groups:
                groups[job.group].append(job)
            else:
                groups[job.group] = deque((job,))
    return groups


def _batch(group: Deque[Job], limit: int) -> List[Job]:
    """Takes the next of a group out, as many as share a run."""
    members = [group.popleft()]
    left = members[0].model.max_batch - members[0].rows
    while group and group[0].rows <= left and len(members) < limit:
        left -= group[0].rows
        members.append(group.popleft())
    return members


def _late_beside_streams(situation: Situation, jobs: Sequence[Job]) -> Late:
    """The same as `_Forecast`, faster, for one lane without chains."""
    found: Late = {}
    now_ns, place, left = situation.free[0], 0, len(jobs)
    coming = [(at, job.key, job.cost_ns, job.deadline_ns, period) for at, period, job in situation.streams]
    heapify(coming)
    arrived: List[Tuple[Key, int, int]] = []
    for _ in range(left + _MOST):
        while coming[0][0] <= now_ns:
            at, key, cost_ns, deadline_ns, period = coming[0]
            heappush(arrived, (key, cost_ns, deadline_ns))
            following = (key[0], key[1] + period, key[2])
            heapreplace(coming, (at + period, following, cost_ns, deadline_ns + period, period))
        if arrived and (place == left or arrived[0][0] < jobs[place].key):
            key, cost_ns, deadline_ns = heappop(arrived)
        elif place < left:
            job = jobs[place]
            key, cost_ns, deadline_ns = job.key, job.cost_ns, job.deadline_ns
            place += 1
        else:
            return found
        now_ns += cost_ns
        if now_ns > deadline_ns:
            found[key] = now_ns - deadline_ns
    found[ENDLESS] = 1
    return found


class _Forecast:
    """List scheduling over several lanes, with slots that run out and jobs that come later."""

    def __init__(self, situation: Situation, jobs: Sequence[Job], limit: int) -> None:
        self.free = list(situation.free)
        heapify(self.free)
        self.held = {model: list(ends) for model, ends in situation.held.items()}
        self.begun = dict(situation.begun)
        self.jobs = jobs
        self.place = 0
        self.limit = limit
        self.count = 0
        self.arrived: List[Tuple[Key, int, Job]] = []
        self.coming: List[Tuple[int, int, Job, int]] = []
        for at, job in situation.coming:
            self._come(at, job)
        for at, period, job in situation.streams:
            self._come(at, job, period)
        self.has_streams = bool(situation.streams)
        self.finite = len(situation.coming)  # of those that come, how many aren't jobs of streams
        self.groups = _by_group(jobs) if limit > 1 else {}
        self.along: Set[Key] = set()
        self.budget = _MOST
        self.found: Late = {}

    def run(self) -> Late:
        """Simulates until everything is done, and no job of a stream waits."""
        while self.budget:
            now_ns = self.free[0]
            self._arrive(now_ns)
            job = self._first()
            if job is not None:
                if not self._is_held(job, now_ns):
                    self._start(job, now_ns)
            elif self.finite:
                heapreplace(self.free, self.coming[0][0])
            else:
                return self.found
        self.found[ENDLESS] = 1
        return self.found

    def _arrive(self, now_ns: int) -> None:
        coming = self.coming
        while coming and coming[0][0] <= now_ns:
            at, _, job, period = heappop(coming)
            key = job.key
            self.count += 1
            heappush(self.arrived, (key, self.count, job))
            if period:
                self.budget -= 1
                again = Job(job.model, (), (key[0], key[1] + period, key[2]), job.deadline_ns + period, job.rows)
                again.cost_ns = job.cost_ns
                self._come(at + period, again, period)
                if not self.budget:
                    return
            else:
                self.finite -= 1

    def _come(self, at_ns: int, job: Job, period_ns: int = 0) -> None:
        self.count += 1
        heappush(self.coming, (at_ns, self.count, job, period_ns))

    def _first(self) -> Job | None:
        while self.place < len(self.jobs) and self.jobs[self.place].key in self.along:
            self.place += 1
        while self.arrived and self.arrived[0][0] in self.along:
            heappop(self.arrived)
        waiting = self.jobs[self.place] if self.place < len(self.jobs) else None
        if self.arrived and (waiting is None or self.arrived[0][0] < waiting.key):
            return heappop(self.arrived)[2]
        self.place += waiting is not None
        return waiting

    def _is_held(self, job: Job, now_ns: int) -> bool:
        """Puts a job off for which no slot of its model is free."""
        ends = self.held.get(job.model)
        if ends is None or job.segment:
            return False
        ends[:] = [end for end in ends if end > now_ns]
        if len(ends) + self.begun.get(job.model, 0) < job.model.slots:
            return False
        later = [at for at, _, each, __ in self.coming if at > now_ns and each.segment and each.model is job.model]
        self._come(min([*ends, *later], default=NEVER), job)
        self.finite += 1
        return True

    def _start_segment(self, job: Job, now_ns: int) -> None:
        """Runs a chain as far as a stream's request may come between."""
        rest = Job(job.model, (), job.key, job.deadline_ns, job.rows)
        rest.segment = job.segment + 1
        rest.cost_ns = job.model.rest_ns(job.rows, rest.segment)
        end_ns = now_ns + job.cost_ns - rest.cost_ns
        heapreplace(self.free, end_ns)
        if job.model in self.held:
            self.begun[job.model] = self.begun.get(job.model, 0) + (job.segment == 0)
        self._come(end_ns, rest)
        self.finite += 1

    def _start(self, job: Job, now_ns: int) -> None:
        if self.has_streams and job.segment + 1 < job.model.segments:
            self._start_segment(job, now_ns)
            return
        members, cost_ns = [job], job.cost_ns
        group: Any = self.groups.get(job.group) if job.group is not None else None
        if group:
            if group[0] is not job:
                group.remove(job)  # it was put off, and others of its group went before
                group.appendleft(job)
            members = _batch(group, self.limit)
            self.along.update([each.key for each in members[1:]])
            cost_ns = job.model.rest_ns(sum([each.rows for each in members]))
        end_ns = now_ns + cost_ns
        heapreplace(self.free, end_ns)
        if job.model in self.held:
            self.held[job.model].append(end_ns)
            if job.segment:
                self.begun[job.model] -= 1
        for each in members:
            if each.deadline_ns < end_ns and each.deadline_ns != NEVER:
                self.found[each.key] = end_ns - each.deadline_ns
