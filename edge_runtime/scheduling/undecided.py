"""Requests that no promise could be made to when they came, and that may get one when runs end early."""

from __future__ import annotations

from typing import Dict, List, Optional

from edge_runtime.errors import DeadlineRefusedError
from edge_runtime.scheduling.admission import SHORTEST_S, Admission
from edge_runtime.scheduling.job import Job, Model
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.state import State

_MOST_OF_A_MODEL = 1


class Held:
    """A job that isn't decided about, what it is likely to cost, and why it was refused last.

    It waits until `until_ns`, and was tested last at `tested_ns`.
    """

    __slots__ = ("job", "likely_ns", "refusal", "tested_ns", "until_ns")

    def __init__(self, job: Job, likely_ns: int, refusal: DeadlineRefusedError, now_ns: int, until_ns: int) -> None:
        self.job = job
        self.likely_ns = likely_ns
        self.refusal = refusal.with_traceback(None)  # whose frames would keep the request
        self.tested_ns = now_ns
        self.until_ns = until_ns


class Undecided:
    """At most one job of each model, for `patience_ns` at most and no longer than it could still be done in time.

    A promise has to hold for the longest time of every run that goes before. Each run that ends sooner leaves room that
    nobody could count on. A job is tested again when a lane is free and it would be the next to run: nothing is decided
    by an earlier test, and each costs time. What lacks more than the time that it may wait isn't held.
    """

    def __init__(self, patience_ns: int) -> None:
        self._patience_ns = patience_ns
        self._held: Dict[Request, Held] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def count(self, model: Model) -> int:
        """How many jobs of a model are held."""
        return sum([held.job.model is model for held in self._held.values()])

    def hold(self, job: Job, likely_ns: int, refusal: DeadlineRefusedError, now_ns: int) -> bool:
        """Whether a job that was refused may wait for another test."""
        until_ns = min(now_ns + self._patience_ns, job.deadline_ns - job.cost_ns)
        if not 0 < refusal.late_ns <= until_ns - now_ns or self.count(job.model) >= _MOST_OF_A_MODEL:
            return False
        self._held[job.requests[0]] = Held(job, likely_ns, refusal, now_ns, until_ns)
        return True

    def reconsider(self, state: State, admission: Admission, now_ns: int) -> None:
        """Takes in the one that is to run next, if there is room for it; gives all up if nothing runs or waits."""
        head = state.backlog.first_key()
        for held in self._in_order():
            job = held.job
            if head is not None and job.key > head:
                break
            if held.tested_ns == now_ns:
                continue
            held.tested_ns = now_ns
            job.cost_ns = job.model.rest_ns(job.rows)
            held.until_ns = min(held.until_ns, job.deadline_ns - job.cost_ns)
            try:
                admission.check(job, None, job.requests[0].arrival_ns, now_ns)
            except DeadlineRefusedError as refusal:
                held.refusal = refusal.with_traceback(None)
            else:
                self.remove(job.requests[0])
                state.take_in(job, held.likely_ns, now_ns)
                return
        if not state.lanes.out and not state.backlog:
            for held in self._held.values():
                held.until_ns = now_ns

    def remove(self, request: Request) -> bool:
        """Whether a request was held; it isn't any more."""
        return self._held.pop(request, None) is not None

    def close(self) -> List[Request]:
        """Gives all of them back."""
        requests = list(self._held)
        self._held.clear()
        return requests

    def take_overdue(self, now_ns: int) -> List[Held]:
        """Takes out those that have waited long enough; what they lack is less by the time that they waited."""
        overdue = [held for held in self._held.values() if held.until_ns <= now_ns]
        for held in overdue:
            self.remove(held.job.requests[0])
            waited_s = (now_ns - held.tested_ns) / 1e9
            held.refusal.retry_after_s = max(SHORTEST_S, held.refusal.retry_after_s - waited_s)
        return overdue

    def next_ns(self) -> Optional[int]:
        """When the first of them has waited long enough."""
        return min([held.until_ns for held in self._held.values()], default=None)

    def _in_order(self) -> List[Held]:
        return sorted(self._held.values(), key=lambda held: held.job.key)
