"""What ours is held against: earliest deadline first without admission, and first come, first served with a timeout."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, List, Optional, Tuple

from edge_runtime.scheduling.request import Request


@dataclass(eq=False)
class Run:
    """Requests that share a run."""

    requests: Tuple[Request, ...]
    model: str
    start_ns: int
    segment: int = 0

    @property
    def rows(self) -> int:
        """How many rows they have together."""
        return sum(request.rows for request in self.requests)


class OneLane:
    """What both have in common: one run at a time, and runs that take as many along as they can."""

    def __init__(self, max_batch: Dict[str, int]) -> None:
        self._max_batch = max_batch
        self._is_free = True

    def next_expiry_ns(self) -> Optional[int]:
        """Neither looks at what waits before it is its turn."""
        return None

    def take_refused(self, now_ns: int) -> List[Tuple[Request, Exception]]:  # noqa: ARG002
        """Neither lets anybody wait for a promise."""
        return []

    def finish(self, dispatch: Any, now_ns: int) -> None:  # noqa: ARG002
        """Frees the lane."""
        self._is_free = True

    def run(self, members: List[Request], now_ns: int) -> Run:
        """Takes the lane."""
        self._is_free = False
        return Run(tuple(members), members[0].model, now_ns)


class EarliestFirst(OneLane):
    """Earliest deadline first; everything is taken in, and runs even if it is late."""

    def __init__(self, max_batch: Dict[str, int]) -> None:
        super().__init__(max_batch)
        self._waiting: List[Tuple[float, int, Request]] = []
        self._count = 0

    def admit(self, request: Request, now_ns: int) -> None:  # noqa: ARG002
        """Takes everything."""
        self._count += 1
        deadline = float("inf") if request.deadline_ns is None else request.deadline_ns
        heapq.heappush(self._waiting, (deadline, self._count, request))

    def take_expired(self, now_ns: int) -> List[Request]:  # noqa: ARG002
        """Gives nothing up."""
        return []

    def next(self, now_ns: int) -> Optional[Run]:
        """The one that is due first, and others of its group."""
        if not self._is_free or not self._waiting:
            return None
        first = heapq.heappop(self._waiting)[2]
        members = [first]
        for entry in sorted(self._waiting) if self._max_batch[first.model] > 1 else ():
            if len(members) < self._max_batch[first.model] and entry[2].model == first.model:
                members.append(entry[2])
                self._waiting.remove(entry)
        heapq.heapify(self._waiting)
        return self.run(members, now_ns)


class FirstCome(OneLane):
    """First come, first served, with the queue policy of Triton's dynamic batcher, `timeout_action: REJECT`.

    A request whose time in the queue exceeds its timeout, here all the time until its deadline, is rejected when the
    batcher comes to it; one that starts before is answered however late.
    """

    def __init__(self, max_batch: Dict[str, int]) -> None:
        super().__init__(max_batch)
        self._waiting: Deque[Request] = deque()
        self._rejected: List[Request] = []

    def admit(self, request: Request, now_ns: int) -> None:  # noqa: ARG002
        """Takes everything."""
        self._waiting.append(request)

    def take_expired(self, now_ns: int) -> List[Request]:  # noqa: ARG002
        """Those that were rejected when their turn came."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def next(self, now_ns: int) -> Optional[Run]:
        """The first whose timeout hasn't passed, and others of its model."""
        members: List[Request] = []
        if not self._is_free:
            return None
        for request in list(self._waiting):
            if members and (request.model != members[0].model or len(members) >= self._max_batch[members[0].model]):
                if self._max_batch[members[0].model] <= len(members):
                    break
                continue
            self._waiting.remove(request)
            if request.deadline_ns is not None and now_ns > request.deadline_ns:
                self._rejected.append(request)
            else:
                members.append(request)
        return self.run(members, now_ns) if members else None
