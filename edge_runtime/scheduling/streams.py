"""Declared periodic streams: which are taken, on which lane, and what else may run beside them."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Dict, Hashable, Iterable, List, Optional, Sequence, Tuple

from edge_runtime.scheduling.demand import Task, room_ns
from edge_runtime.scheduling.job import NEVER, Job, Model
from edge_runtime.scheduling.request import Period

_FORGET_NS = 1_000_000_000
_PERIODS = 10
_HANDOVER = 6  # a 64th of its deadline may pass before a request reaches the scheduler
_STEPS = 2048
MOST_STREAMS = 100  # each new one is held against all others, which takes a millisecond at that number


@dataclass(eq=False)
class Stream:
    """A declared stream: the lane that it is tested on, and when its last request came that kept to its period."""

    period: Period
    model: Model
    rows: int
    lane: int
    last_ns: int
    number: int

    def task(self) -> Task:
        """What it may ask of its lane."""
        cost, period = max(1, self.model.rest_ns(self.rows)), self.period
        longest = max(self.model.segment_ns(self.rows, each) for each in range(self.model.segments))
        return Task(cost, period.period_ns, period.deadline_ns - (period.deadline_ns >> _HANDOVER), longest)

    def takes(self, job: Job, arrival_ns: int, now_ns: int) -> bool:
        """Whether a request asks for no more than was declared."""
        period = self.period
        return (
            job.model is self.model
            and job.rows <= self.rows
            and arrival_ns >= self.last_ns + period.period_ns
            and now_ns - arrival_ns <= period.deadline_ns >> _HANDOVER
            and job.deadline_ns >= arrival_ns + period.deadline_ns
        )


class Streams:
    """The declared streams, partitioned over the lanes, first fit.

    Each lane's streams pass the exact test of `demand`. A run of anything else may begin on the lane only if they keep
    their deadlines after it, whenever their next requests come (`allows`), so what isn't declared can't break them.
    """

    def __init__(self, lanes: int) -> None:
        self.live: Dict[Hashable, Stream] = {}
        self._rooms: List[Optional[int]] = [NEVER] * lanes
        self._count = 0

    def room_ns(self) -> int:
        """The longest that anything else may run on at least one lane."""
        return max(room or 0 for room in self._rooms)

    def renew(self) -> None:
        """Computes what the streams leave, when service times have changed."""
        for lane in range(len(self._rooms)):
            tasks = self._tasks(lane)
            self._rooms[lane] = room_ns(tasks) if tasks else NEVER

    def forget(self, now_ns: int) -> None:
        """Drops streams of which nothing came for 10 periods and a second."""
        gone = [
            key
            for key, stream in self.live.items()
            if now_ns - stream.last_ns > max(_PERIODS * stream.period.period_ns, _FORGET_NS)
        ]
        for key in gone:
            del self.live[key]
        if gone:
            self.renew()

    def declare(self, job: Job, period: Period, longest_ns: int, arrival_ns: int) -> Optional[Stream]:
        """Puts a new stream on the first lane where it fits; None if it fits nowhere.

        `longest_ns` is how long anything that isn't declared may hold a lane.
        """
        stream = Stream(period, job.model, job.rows, 0, arrival_ns, self._count)
        for lane in range(len(self._rooms)):
            room = room_ns([*self._tasks(lane), stream.task()])
            if room is not None and room >= longest_ns:
                stream.lane = lane
                self._rooms[lane] = room
                self.live[period.key] = stream
                self._count += 1
                return stream
        return None

    def withdraw(self, stream: Stream) -> None:
        """Forgets a stream."""
        del self.live[stream.period.key]
        self.renew()

    def drop(self, model: Model) -> None:
        """Forgets the streams of a model that isn't served any more."""
        for stream in [each for each in self.live.values() if each.model is model]:
            self.withdraw(stream)

    def coming(self, now_ns: int, without: Optional[Stream] = None) -> List[Tuple[int, int, Job]]:
        """The next job of each stream: when it may come at the earliest, its period, and the job."""
        return [self._next(stream, now_ns) for stream in self.live.values() if stream is not without]

    def allows(self, job: Job, run: Tuple[int, int], lane: int, now_ns: int, waiting: Iterable[Job]) -> bool:
        """Whether a lane's streams keep their deadlines if it takes a run of `job` now.

        `run` is when it starts and when it ends, at worst; `waiting` is all that waits.
        """
        room = self._rooms[lane]
        if room == NEVER:
            return True
        start_ns, end_ns = run
        is_own = job.stream is not None and job.stream.lane == lane
        if (not is_own or start_ns > now_ns) and end_ns - now_ns > (room or 0):
            return False
        own = [each for each in waiting if each.stream is not None and each.stream.lane == lane and each is not job]
        if not own or (is_own and start_ns <= now_ns and all(job.deadline_ns <= each.deadline_ns for each in own)):
            return True
        return start_ns <= now_ns and self.withstands(lane, now_ns, end_ns, own)

    def _tasks(self, lane: int) -> List[Task]:
        return [stream.task() for stream in self.live.values() if stream.lane == lane]

    def _next(self, stream: Stream, now_ns: int) -> Tuple[int, int, Job]:
        period = stream.period
        release_ns = max(stream.last_ns + period.period_ns, now_ns)
        deadline_ns = release_ns + period.deadline_ns
        job = Job(stream.model, (), (NEVER, deadline_ns, -1 - stream.number), deadline_ns, stream.rows)
        job.cost_ns = stream.model.rest_ns(stream.rows)
        return release_ns, period.period_ns, job

    def withstands(self, lane: int, now_ns: int, end_ns: int, own: Sequence[Job]) -> bool:
        """Whether a lane's streams keep their deadlines if it is held until then: simulated until nothing waits.

        The requests come as early as they may, which is the worst that they can do; from the first gap on, the test
        that they passed when they were declared holds again.
        """
        ready = [(job.deadline_ns, job.cost_ns) for job in own]
        heapify(ready)
        coming = []
        for stream in self.live.values():
            if stream.lane == lane:
                release_ns, period_ns, job = self._next(stream, now_ns)
                coming.append((release_ns, stream.number, period_ns, stream.period.deadline_ns, job.cost_ns))
        heapify(coming)
        for _ in range(_STEPS):
            while coming and coming[0][0] <= end_ns:
                release_ns, number, period_ns, relative_ns, cost_ns = heappop(coming)
                heappush(ready, (release_ns + relative_ns, cost_ns))
                heappush(coming, (release_ns + period_ns, number, period_ns, relative_ns, cost_ns))
            if not ready:
                return True
            deadline_ns, cost_ns = heappop(ready)
            end_ns += cost_ns
            if end_ns > deadline_ns:
                return False
        return False
