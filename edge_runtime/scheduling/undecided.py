"""Requests that no promise could be made to when they came, and that may get one when runs end early."""

from __future__ import annotations

from typing import Dict, List, Optional

from edge_runtime.errors import DeadlineRefusedError
from edge_runtime.scheduling.admission import Admission
from edge_runtime.scheduling.job import Job
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.state import State

_MOST = 4  # each costs an admission test whenever a run ends


class Held:
    """A job that isn't decided about, what it is likely to cost, why it was refused last, and until when it waits."""

    __slots__ = ("job", "likely_ns", "refusal", "until_ns")

    def __init__(self, job: Job, likely_ns: int, refusal: DeadlineRefusedError, until_ns: int) -> None:
        self.job = job
        self.likely_ns = likely_ns
        self.refusal = refusal
        self.until_ns = until_ns


class Undecided:
    """At most four jobs, each for `patience_ns` at most and no longer than it could still be done in time.

    A promise has to hold for the longest time of every run that goes before. Each run that ends sooner leaves room that
    nobody could count on. What lacks more than the time that it may wait isn't held: runs won't be that much shorter.
    """

    def __init__(self, patience_ns: int) -> None:
        self._patience_ns = patience_ns
        self._held: Dict[Request, Held] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def __contains__(self, request: Request) -> bool:
        return request in self._held

    def hold(self, job: Job, likely_ns: int, refusal: DeadlineRefusedError, now_ns: int) -> bool:
        """Whether a job that was refused may wait for another test; it does then, as one of its model's that wait."""
        until_ns = min(now_ns + self._patience_ns, job.deadline_ns - job.cost_ns)
        if len(self._held) >= _MOST or refusal.retry_after_s * 1e9 > until_ns - now_ns:
            return False
        self._held[job.requests[0]] = Held(job, likely_ns, refusal, until_ns)
        job.model.waiting += 1
        return True

    def in_order(self) -> List[Held]:
        """All of them, the most urgent first."""
        return sorted(self._held.values(), key=lambda held: held.job.key)

    def reconsider(self, state: State, admission: Admission, now_ns: int) -> None:
        """Takes in those that there is room for since a run ended; gives the others up if nothing runs after it."""
        state.renew()
        for held in self.in_order():
            job = held.job
            job.cost_ns = job.model.rest_ns(job.rows)
            try:
                admission.check(job, None, job.requests[0].arrival_ns, now_ns)
            except DeadlineRefusedError as refusal:
                held.refusal = refusal
            else:
                self.remove(job.requests[0])
                state.take_in(job, held.likely_ns, now_ns)
        if not state.lanes.out and not state.backlog:
            for held in self._held.values():
                held.until_ns = now_ns

    def remove(self, request: Request) -> bool:
        """Whether a request was held; it isn't any more."""
        held = self._held.pop(request, None)
        if held is None:
            return False
        held.job.model.waiting -= 1
        return True

    def close(self) -> List[Request]:
        """Gives all of them back."""
        requests = list(self._held)
        for request in requests:
            self.remove(request)
        return requests

    def overdue(self, now_ns: int) -> List[Held]:
        """Those that have waited long enough."""
        return [held for held in self._held.values() if held.until_ns <= now_ns]

    def next_ns(self) -> Optional[int]:
        """When the first of them has waited long enough."""
        return min([held.until_ns for held in self._held.values()], default=None)
