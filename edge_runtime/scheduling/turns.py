"""Requests of one model without a deadline, whose clients take turns."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from heapq import heapify, heappop, heappush
from typing import Deque, Dict, Generic, Hashable, Iterator, List, Optional, Protocol, Tuple, TypeVar

from edge_runtime.scheduling.request import Request

_MOST_LEFT = 1024


class Waiting(Protocol):
    """What waits: of one client, and how long it takes."""

    requests: Tuple[Request, ...]
    cost_ns: int


W = TypeVar("W", bound=Waiting)


class _Line(Generic[W]):
    """What one client has waiting, in order, and where its next turn stands: by the fair clock, then by age.

    Attributes:
        gone: how many have been the first and are no more.
    """

    __slots__ = ("gone", "jobs", "place", "start_ns")

    def __init__(self, start_ns: int) -> None:
        self.jobs: Deque[W] = deque()
        self.gone = 0
        self.start_ns = start_ns
        self.place = (start_ns, 0)


class _First(Generic[W]):
    """That a client's job became its first, and how many of all clients had come by then.

    It holds the line and not the job, whose memory is free as soon as it is gone.
    """

    __slots__ = ("come", "gone", "line")

    def __init__(self, line: _Line[W], come: int) -> None:
        self.line = line
        self.gone = line.gone
        self.come = come

    @property
    def is_gone(self) -> bool:
        """Whether it is the first no more."""
        return self.line.gone != self.gone


class Turns(Generic[W]):
    """Start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996) of clients, by the service time that each has had.

    A client's turn starts where its last one ended, or at the clock: the start of the latest turn that was served. So
    one that comes anew waits for at most one turn of each other client. Where the last turn ended stays known of a
    client with nothing waiting until the clock has passed it, of the latest 1,024 at most.

    The clock stands still while ever new clients come. So, among several clients, the first job of one waits for no
    more others than were waiting when it became the first, but for those firsts of other clients that are due as well:
    nobody starves, and clients that ask for one thing at a time are served in the order in which they came.

    Attributes:
        first: the one whose turn it is; None if nothing waits.
        latest: the client that was served last.
    """

    __slots__ = (
        "_added",
        "_clock_ns",
        "_count",
        "_firsts",
        "_left",
        "_lines",
        "_order",
        "_removed",
        "first",
        "latest",
    )

    def __init__(self) -> None:
        self.first: Optional[W] = None
        self.latest: Hashable = None
        self._clock_ns = 0
        self._count = 0
        self._added = 0
        self._removed = 0
        self._lines: Dict[Hashable, _Line[W]] = {}  # a client that is alone stays in it
        self._order: List[Tuple[int, int, _Line[W]]] = []  # while there are several clients
        self._firsts: Deque[_First[W]] = deque()  # while there are several clients, the oldest first
        self._left: Dict[Hashable, int] = {}  # where the next turn starts of clients that have nothing waiting

    def __iter__(self) -> Iterator[W]:
        """All that wait, in the order in which they would be served if nothing else came."""
        if not self._order:
            for line in self._lines.values():
                yield from line.jobs
            return
        ahead = [(start_ns, count, 0, line) for start_ns, count, line in self._order]
        heapify(ahead)
        count, removed, firsts, begun = self._count, self._removed, deque(self._firsts), set()
        while ahead:
            while firsts and (firsts[0].line in begun or firsts[0].is_gone):
                firsts.popleft()
            if firsts and removed >= firsts[0].come:
                line = firsts[0].line
                start_ns, index = line.start_ns, 0
            else:
                start_ns, _, index, line = heappop(ahead)
                if not index and line in begun:
                    continue
            job = line.jobs[index]
            yield job
            begun.add(line)
            removed += 1
            if index + 1 < len(line.jobs):
                count += 1
                heappush(ahead, (start_ns + (job.cost_ns or 1), count, index + 1, line))

    def add(self, job: W) -> None:
        """Lets a job wait behind those of its client."""
        client = job.requests[0].client
        line = self._lines.get(client)
        self._added += 1
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
        self._removed += 1
        is_first = jobs[0] is job
        if is_first:
            jobs.popleft()
            line.gone += 1
        else:
            jobs.remove(job)
        if used_ns:
            self.latest = client
            self._clock_ns = max(self._clock_ns, line.start_ns)
            line.start_ns += used_ns
        if self._order:
            if is_first and jobs:
                self._note(line, self._added - 1)
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
            other, gone = lines.popitem()
            self._leave(other, gone.start_ns)
        line: _Line[W] = _Line(max(self._left.pop(client, 0), self._clock_ns))
        line.jobs.append(job)
        if lines:
            if not self._order:
                (alone,) = lines.values()
                self._queue(alone)
                self._note(alone, self._added - 1)
            self._queue(line)
            self._note(line, self._added - 1)
        lines[client] = line
        self.first = self._next() if self._order else job

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
        self.first = self._next()
        if len(order) == 1:
            order.clear()
            self._firsts.clear()

    def _next(self) -> W:
        """Of several clients' jobs the one that is served next."""
        firsts = self._firsts
        while firsts and firsts[0].is_gone:
            firsts.popleft()
        if firsts and self._removed >= firsts[0].come:
            return firsts[0].line.jobs[0]
        return self._order[0][2].jobs[0]

    def _note(self, line: _Line[W], come: int) -> None:
        self._firsts.append(_First(line, come))
        if len(self._firsts) > _MOST_LEFT + 2 * len(self._lines):  # many were withdrawn while nothing was served
            self._firsts = deque([each for each in self._firsts if not each.is_gone])

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
