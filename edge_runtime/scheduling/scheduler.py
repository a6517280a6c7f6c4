"""The scheduler of a resident inference server: which request is taken in, and which runs next."""

from __future__ import annotations

from typing import List, Optional, Tuple

from edge_runtime.errors import (
    DeadlineExpiredError,
    DeadlineRefusedError,
    ServerUnavailableError,
)
from edge_runtime.scheduling.admission import Admission
from edge_runtime.scheduling.bounds import Bounds
from edge_runtime.scheduling.job import NEVER, Job, Model
from edge_runtime.scheduling.lanes import Dispatch
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.selection import Selection
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.scheduling.shares import WINDOW_NS
from edge_runtime.scheduling.state import State, rest_of
from edge_runtime.scheduling.undecided import Undecided

__all__ = ["PATIENCE_NS", "Dispatch", "ModelPolicy", "Scheduler"]

PATIENCE_NS = 10_000_000  # a server's
_STEP = 4  # of sequence numbers: others are put in between


class Scheduler:
    """Deadline scheduling of one accelerator, non-preemptive and earliest deadline first, with an admission test.

    It has no clock, no threads and no locks: one thread calls it, and tells it the time, which never goes back. `lanes`
    is how many runs truly go on in parallel, `depth` (at least that; `lanes` if None) how many are handed out at once.
    Requests of priority 1 come before those of 2 and so on, 0 last; then the earlier deadline counts. One without a
    deadline takes its model's share of the time, and its client's turn of that; it never expires. While a model's
    service times are unknown, it counts as taking no time: nothing is refused for its sake.

    A request whose deadline can't be promised when it comes is refused at once, unless it lacks so little that runs may
    make up for it by ending early: it may then wait for `patience_ns`, and is tested again when it is to run next.

    Where several clients want a model, each has an equal share of its queue: one without a deadline that waits may have
    to give its place up (`take_refused`), and of the time that is promised.
    """

    def __init__(self, times: ServiceTimes, lanes: int, depth: Optional[int] = None, patience_ns: int = 0) -> None:
        self._state = State(times, lanes, lanes if depth is None else depth)
        self._admission = Admission(self._state)
        self._selection = Selection(self._state)
        self._bounds = Bounds(self._state)
        self._undecided = Undecided(patience_ns)
        self._is_open = True
        self._sequence = 0
        self._now_ns = 0

    def register(self, policy: ModelPolicy) -> None:
        """Makes a model known; again: changes its limits, for what comes from here on."""
        state = self._state
        known = state.models.get(policy.name)
        model = Model(policy, state.times)
        if known is not None and known.segments == policy.segments:
            known.policy, known.slots, known.queue_size = policy, policy.slots, policy.queue_size
            known.max_batch = policy.max_batch
            return
        state.models[policy.name] = model
        state.has_chains = state.has_chains or policy.segments > 1

    def remove(self, name: str) -> bool:
        """Forgets a model and its service times; False, and nothing is done, while it runs or requests of it wait."""
        if self.waiting(name) or self._state.find(name).busy:
            return False
        self._state.remove(name)
        return True

    def admit(self, request: Request, now_ns: int) -> None:
        """Takes a request in; it waits from here on, perhaps for a promise (`take_refused`).

        When it raises, nothing waits and nothing is promised.

        Raises:
            UnknownNameError: its model isn't registered.
            QueueFullError: as many of its model wait as may, and its client has its share of them.
            DeadlineRefusedError: its deadline can't be kept, or not without breaking another's, or its client has been
                promised its share of the time until then.
            DeadlineExpiredError: its deadline has passed.
            ServerUnavailableError: the scheduler is closed.
            InvalidRequestError: it declares a stream without a period or a deadline.
        """
        if not self._is_open:
            raise ServerUnavailableError("the server is shutting down; ask another one, or again later")
        state = self._state
        self._now_ns = now_ns
        model = state.find(request.model)
        if state.version != state.times.version:
            state.renew()
        likely_ns = state.shares.arrived(model, request.rows, now_ns)
        place: Job | None = None
        if model.waiting >= model.queue_size or now_ns - model.pressed_ns < WINDOW_NS:
            place = self._bounds.place_of(model, request, now_ns)
        job = self._job(model, request)
        if job.deadline_ns <= now_ns:
            raise DeadlineExpiredError(
                f"the deadline passed {(now_ns - job.deadline_ns) / 1e6:.3f} ms before the request could be taken in"
            )
        if job.deadline_ns != NEVER or state.streams.live:
            if request.stream is None and job.is_urgent and self._bounds.concern(model, request.client, now_ns):
                self._bounds.check_promise(job, now_ns)
            try:
                self._admission.check(job, request.stream, request.arrival_ns, now_ns)
            except DeadlineRefusedError as refusal:
                self._bounds.turned_away(job, now_ns)
                if (
                    self.is_idle
                    and not state.streams.live
                    and now_ns + _typical_ns(job, state.times) <= job.deadline_ns
                ):
                    state.times.doubt(model.name)
                may_wait = state.lanes.out and request.stream is None and place is None
                if may_wait and self._undecided.hold(job, likely_ns, refusal, now_ns):
                    return
                raise
        if place is not None:
            self._bounds.displace(place, now_ns)
        state.take_in(job, likely_ns, now_ns)

    def next(self, now_ns: int) -> Optional[Dispatch]:
        """The run to start now, for the caller to start and report to `finish`; None if nothing may start."""
        state = self._state
        self._now_ns = now_ns
        if not state.backlog and not self._undecided:
            return None
        if state.version != state.times.version:
            state.renew()
        if self._undecided and state.lanes.open():
            self._undecided.reconsider(state, self._admission, now_ns)
        if state.streams.live:
            state.streams.forget(now_ns)
        for lane in state.lanes.open():
            jobs = self._selection.choose(lane, now_ns)
            if jobs:
                return self._start(jobs, lane, now_ns)
        return None

    def finish(self, dispatch: Dispatch, now_ns: int, failed: bool = False) -> None:
        """Takes note that a run has ended; its requests wait for the chain's next segment, if there is one."""
        state = self._state
        job, run_ns = state.lanes.finish(dispatch, now_ns)
        model = job.model
        if not failed:
            state.times.observe(model.name, dispatch.segment, dispatch.rows, run_ns)
        if failed or job.segment + 1 >= model.segments:
            model.busy -= 1
            if model.segments > 1:
                state.backlog.disinherit(model)
        else:
            state.renew()
            state.backlog.add(rest_of(job), now_ns, 1)
            state.inherit(model)

    def take_refused(self, now_ns: int) -> List[Tuple[Request, ServerUnavailableError]]:
        """Takes out and gives those that waited for a promise and get none, or gave their place up, and why."""
        found: List[Tuple[Request, ServerUnavailableError]] = []
        if self._bounds:
            found += self._bounds.take_displaced()
        if self._undecided:
            found += [(held.job.requests[0], held.refusal) for held in self._undecided.take_overdue(now_ns)]
        return found

    def take_expired(self, now_ns: int) -> List[Request]:
        """Takes out and gives those that couldn't keep their deadline even if they started now."""
        state = self._state
        state.renew()
        jobs = state.backlog.expired(now_ns)
        for job in jobs:
            state.backlog.remove(job, now_ns, 1)
        return [job.requests[0] for job in jobs]

    def next_expiry_ns(self) -> Optional[int]:
        """When `take_expired` and `take_refused` should be called next at the latest; None if there is no need."""
        self._state.renew()
        times = [
            self._state.backlog.next_expiry_ns(),
            self._undecided.next_ns(),
            self._now_ns if self._bounds else None,
        ]
        return min([each for each in times if each is not None], default=None)

    def withdraw(self, request: Request) -> bool:
        """Takes out a request that nobody waits for any more; False if it doesn't wait, or its chain has begun."""
        job = self._state.backlog.jobs.get(request)
        if job is None:
            return self._undecided.remove(request) or self._bounds.withdraw(request)
        self._state.backlog.remove(job, self._now_ns, self._state.active(self._now_ns))
        return True

    def waiting(self, model: Optional[str] = None) -> int:
        """How many requests wait, of one model or of all; chains that have begun aren't among them."""
        if model is not None:
            found = self._state.find(model)
            return found.waiting + self._undecided.count(found)
        return sum([self.waiting(name) for name in self._state.models])

    @property
    def is_idle(self) -> bool:
        """Whether nothing is handed out and nothing waits, chains that have begun among it."""
        return not (self._state.lanes.out or self._state.backlog or self._undecided or self._bounds)

    def close(self) -> List[Request]:
        """Admits nothing from here on and gives back all that wait; chains that have begun go on."""
        self._is_open = False
        jobs = list(self._state.backlog.jobs.values())
        for job in reversed(jobs):
            self._state.backlog.remove(job, 0, 1)
        displaced = [request for request, _ in self._bounds.take_displaced()]
        return [job.requests[0] for job in jobs] + self._undecided.close() + displaced

    def _job(self, model: Model, request: Request) -> Job:
        deadline_ns = request.deadline_ns
        if deadline_ns is None:
            stream = request.stream
            deadline_ns = NEVER if stream is None else request.arrival_ns + stream.deadline_ns
        self._sequence += _STEP
        key = (request.priority or NEVER, deadline_ns, self._sequence)
        job = Job(model, (request,), key, deadline_ns, request.rows)
        job.cost_ns = model.rest_ns(request.rows)
        if request.group is not None and model.max_batch > 1:
            job.group = (model.name, request.group)
        return job

    def _start(self, jobs: List[Job], lane: int, now_ns: int) -> Dispatch:
        state, job = self._state, jobs[0]
        active = state.active(now_ns) if job.deadline_ns == NEVER or len(jobs) > 1 else 1
        run = job
        if len(jobs) > 1:
            requests = tuple([each.requests[0] for each in jobs])
            rows = sum([each.rows for each in jobs])
            run = Job(job.model, requests, job.key, min([each.deadline_ns for each in jobs]), rows)
            run.cost_ns = job.model.rest_ns(rows)
            if job.deadline_ns == NEVER:
                job.model.virtual_ns += max(0, run.cost_ns - job.cost_ns) * active
        for each in jobs:
            state.backlog.remove(each, now_ns, active, run.cost_ns * each.rows // run.rows or 1)
        if not run.segment:
            run.model.busy += 1
            if run.model.segments > 1 and run.model.busy >= run.model.slots:
                state.inherit(run.model)
        return state.lanes.hand_out(run, lane, now_ns)


def _typical_ns(job: Job, times: ServiceTimes) -> int:
    """What a job usually takes, all of its segments."""
    rows = job.requests[0].rows
    return sum([times.typical_ns(job.model.name, segment, rows) or 0 for segment in range(job.model.segments)])
