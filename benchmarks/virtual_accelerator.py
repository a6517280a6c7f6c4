"""An accelerator in virtual time: hands a scheduler the arrivals of a trace, and times what it starts."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.scheduling.request import Request


@dataclass
class Outcome:
    """What became of one request: refused, expired or answered, and when."""

    request: Request
    refused_ns: Optional[int] = None
    expired_ns: Optional[int] = None
    started_ns: Optional[int] = None
    answered_ns: Optional[int] = None
    error: Optional[Exception] = None

    @property
    def is_accepted(self) -> bool:
        """Whether it was taken in."""
        return self.refused_ns is None

    @property
    def is_in_time(self) -> bool:
        """Whether it was answered by its deadline, if it had one."""
        deadline_ns = self.request.deadline_ns
        return self.answered_ns is not None and (deadline_ns is None or self.answered_ns <= deadline_ns)


@dataclass
class Trace:
    """What a run gives: an outcome for each request, and every dispatch with when it began and ended."""

    outcomes: Dict[Request, Outcome] = field(default_factory=dict)
    runs: List[Tuple[Any, int, int]] = field(default_factory=list)
    end_ns: int = 0

    def missed(self) -> List[Outcome]:
        """Those that were taken in with a deadline and not answered by it."""
        return [
            each
            for each in self.outcomes.values()
            if each.is_accepted and each.request.deadline_ns is not None and not each.is_in_time
        ]


class VirtualAccelerator:
    """Runs what a scheduler hands out, `lanes` at once and in that order; `duration` gives each dispatch's true time.

    `chains` is how many segments a model has, 1 if it isn't named.
    """

    def __init__(
        self, scheduler: Any, lanes: int, duration: Callable[[Any], int], chains: Optional[Dict[str, int]] = None
    ) -> None:
        self.scheduler = scheduler
        self.now_ns = 0
        self._duration = duration
        self._chains = chains or {}
        self._free = lanes
        self._handed_out: Deque[Any] = deque()
        self._ends: List[Tuple[int, int, int, Any]] = []
        self._count = 0
        self._trace = Trace()

    def run(self, requests: Sequence[Request]) -> Trace:
        """Plays a trace, sorted by arrival, to its end."""
        arrivals = deque(requests)
        while arrivals or self._ends:
            expiry_ns = self.scheduler.next_expiry_ns()
            times = [arrivals[0].arrival_ns] if arrivals else []
            times += [self._ends[0][0]] if self._ends else []
            times += [max(expiry_ns, self.now_ns)] if expiry_ns is not None else []
            self.now_ns = min(times)
            while self._ends and self._ends[0][0] <= self.now_ns:
                self._end()
            self._expire()
            while arrivals and arrivals[0].arrival_ns <= self.now_ns:
                self.offer(arrivals.popleft())
            self._start()
            self._expire()
        self._trace.end_ns = self.now_ns
        return self._trace

    def offer(self, request: Request) -> None:
        """Hands a request to the scheduler."""
        outcome = self._trace.outcomes[request] = Outcome(request)
        try:
            self.scheduler.admit(request, self.now_ns)
        except ServerUnavailableError as error:
            outcome.refused_ns, outcome.error = self.now_ns, error

    def _expire(self) -> None:
        for request, error in self.scheduler.take_refused(self.now_ns):
            outcome = self._trace.outcomes[request]
            outcome.refused_ns, outcome.error = self.now_ns, error
        for request in self.scheduler.take_expired(self.now_ns):
            self._trace.outcomes[request].expired_ns = self.now_ns

    def _start(self) -> None:
        while True:
            dispatch = self.scheduler.next(self.now_ns)
            if dispatch is None:
                break
            self._handed_out.append(dispatch)
        while self._free and self._handed_out:
            dispatch = self._handed_out.popleft()
            self._free -= 1
            self._count += 1
            end_ns = self.now_ns + self._duration(dispatch)
            heapq.heappush(self._ends, (end_ns, self._count, self.now_ns, dispatch))
            for request in dispatch.requests:
                outcome = self._trace.outcomes[request]
                outcome.started_ns = self.now_ns if outcome.started_ns is None else outcome.started_ns

    def _end(self) -> None:
        end_ns, _, start_ns, dispatch = heapq.heappop(self._ends)
        self._free += 1
        self._trace.runs.append((dispatch, start_ns, end_ns))
        if dispatch.segment + 1 >= self._chains.get(dispatch.model, 1):
            for request in dispatch.requests:
                self._trace.outcomes[request].answered_ns = end_ns
        self.scheduler.finish(dispatch, end_ns)
