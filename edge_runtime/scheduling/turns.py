"""Requests of one model without a deadline, whose clients take turns."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from heapq import heapify, heappop, heapreplace
from typing import Deque, Dict, Generic, Hashable, Iterator, List, Optional, Protocol, Tuple, TypeVar

from edge_runtime.scheduling.request import Request

_MOST_LEFT = 1024


class Waiting(Protocol):
    """What waits: of one client, and how long it takes."""

    requests: Tuple[Request, ...]
    cost_ns: int


W = TypeVar("W", bound=Waiting)


class _Line(Generic[W]):
    """What one client has waiting, in order, and where its next turn stands: by the fair clock, then by age."""

    __slots__ = ("jobs", "place", "start_ns")

    def __init__(self, start_ns: int) -> None:
        self.jobs: Deque[W] = deque()
        self.start_ns = start_ns
        self.place = (start_ns, 0)


class Turns(Generic[W]):
    """Start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996) of clients, by the service time that each has had.

    A client's turn starts where its last one ended, or at the clock: the start of the latest turn that was served. So
    one that comes anew waits for at most one turn of each other client. Where the last turn ended stays known of a
    client with nothing waiting until the clock has passed it, of the latest 1,024 at most.

    Attributes:
        first: the one whose turn it is; None if nothing waits.
        latest: the client that was served last.
    """

    __slots__ = ("_clock_ns", "_count", "_left", "_lines", "_order", "first", "latest")

    def __init__(self) -> None:
        self.first: Optional[W] = None
        self.latest: Hashable = None
        self._clock_ns = 0
        self._count = 0
        self._lines: Dict[Hashable, _Line[W]] = {}  # a client that is alone stays in it
        self._order: List[Tuple[int, int, _Line[W]]] = []  # while there are several clients
        self._left: Dict[Hashable, int] = {}  # where the next turn starts of clients that have nothing waiting

    def __iter__(self) -> Iterator[W]:
        """All that wait, in the order in which they would be served if nothing else came."""
        if not self._order:
            for line in self._lines.values():
                yield from line.jobs
            return
        ahead = [(start_ns, count, 0, line) for start_ns, count, line in self._order]
        heapify(ahead)
        count = self._count
        while ahead:
            start_ns, _, index, line = ahead[0]
            job = line.jobs[index]
            yield job
            if index + 1 == len(line.jobs):
                heappop(ahead)
            else:
                count += 1
                heapreplace(ahead, (start_ns + (job.cost_ns or 1), count, index + 1, line))

    def add(self, job: W) -> None:
        """Lets a job wait behind those of its client."""
        client = job.requests[0].client
        line = self._lines.get(client)
        if line is None:
            self._join(client, job)
            return
        line.jobs.append(job)
        if self.first is None:
            line.start_ns = max(line.start_ns, self._clock_ns)
            self.first = job

    def remove(self, job: W, used_ns: int) -> None:
        """Takes a job out; `used_ns` is the service time that its client gets by it, 0 if it isn't served."""
        client = job.requests[0].client
        line = self._lines[client]
        jobs = line.jobs
        if jobs[0] is job:
            jobs.popleft()
        else:
            jobs.remove(job)
        if used_ns:
            self.latest = client
            self._clock_ns = max(self._clock_ns, line.start_ns)
            line.start_ns += used_ns
        if self._order:
            self._move(client, line)
        else:
            self.first = jobs[0] if jobs else None

    def charge(self, client: Hashable, used_ns: int) -> None:
        """Counts service that a client gets by something that doesn't wait here."""
        start_ns, line, self.latest = self.start_ns(client), self._lines.get(client), client
        self._clock_ns = max(self._clock_ns, start_ns)
        if line is None:
            self._leave(client, start_ns + used_ns)
            return
        line.start_ns = start_ns + used_ns
        if self._order:
            self._move(client, line)

    def start_ns(self, client: Hashable) -> int:
        """Where the next turn of a client starts."""
        line = self._lines.get(client)
        if line is not None and line.jobs:
            return line.start_ns
        left_ns = self._left.get(client, 0) if line is None else line.start_ns
        return max(left_ns, self._clock_ns)

    def newest(self, client: Hashable) -> Optional[W]:
        """The last one of a client that waits."""
        line = self._lines.get(client)
        return line.jobs[-1] if line is not None and line.jobs else None

    def _join(self, client: Hashable, job: W) -> None:
        """Takes in a client of which nothing waits."""
        lines = self._lines
        if self.first is None and lines:
            other, alone = lines.popitem()
            self._leave(other, alone.start_ns)
        line: _Line[W] = _Line(max(self._left.pop(client, 0), self._clock_ns))
        line.jobs.append(job)
        if lines:
            if not self._order:
                self._queue(next(iter(lines.values())))
            self._queue(line)
        lines[client] = line
        self.first = self._order[0][2].jobs[0] if self._order else job

    def _move(self, client: Hashable, line: _Line[W]) -> None:
        """Gives a client its new place among several, or none if nothing of it waits."""
        order = self._order
        if not line.jobs or line.start_ns != line.place[0]:
            del order[bisect_left(order, line.place)]  # a place is less than its entry
            if line.jobs:
                self._queue(line)
            else:
                del self._lines[client]
                self._leave(client, line.start_ns)
        self.first = order[0][2].jobs[0]
        if len(order) == 1:
            order.clear()

    def _queue(self, line: _Line[W]) -> None:
        self._count += 1
        line.place = (line.start_ns, self._count)
        insort(self._order, (line.start_ns, self._count, line))

    def _leave(self, client: Hashable, start_ns: int) -> None:
        if start_ns <= self._clock_ns:
            return
        self._left[client] = start_ns
        if len(self._left) > _MOST_LEFT:
            kept = [each for each in self._left.items() if each[1] > self._clock_ns]
            self._left = dict(kept[-_MOST_LEFT // 2 :])
