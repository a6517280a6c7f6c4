"""The scheduler of a resident inference server: which request is taken in, and which runs next."""

from __future__ import annotations

from typing import List, Optional

from edge_runtime.errors import (
    DeadlineExpiredError,
    QueueFullError,
    ServerUnavailableError,
    UnknownNameError,
    nearest,
)
from edge_runtime.scheduling.admission import Admission
from edge_runtime.scheduling.job import NEVER, Job, Model
from edge_runtime.scheduling.lanes import Dispatch
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.selection import Selection
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.scheduling.state import State, rest_of

__all__ = ["Dispatch", "ModelPolicy", "Scheduler"]

_STEP = 4  # of sequence numbers: others are put in between


class Scheduler:
    """Deadline scheduling of one accelerator, non-preemptive and earliest deadline first, with an admission test.

    It has no clock, no threads and no locks: one thread calls it, and tells it the time, which never goes back. `lanes`
    is how many runs truly go on in parallel, `depth` (at least that; `lanes` if None) how many are handed out at once.
    Requests of priority 1 come before those of 2 and so on, 0 last; then the earlier deadline counts. One without a
    deadline takes its model's share of the time; it never expires. While a model's service times are unknown, it counts
    as taking no time: nothing is refused for its sake.
    """

    def __init__(self, times: ServiceTimes, lanes: int, depth: Optional[int] = None) -> None:
        self._state = State(times, lanes, lanes if depth is None else depth)
        self._admission = Admission(self._state)
        self._selection = Selection(self._state)
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

    def admit(self, request: Request, now_ns: int) -> None:
        """Takes a request in; it waits from here on. When it raises, nothing waits and nothing is promised.

        Raises:
            UnknownNameError: its model isn't registered.
            QueueFullError: as many of its model wait as may.
            DeadlineRefusedError: its deadline can't be kept, or not without breaking another's.
            DeadlineExpiredError: its deadline has passed.
            ServerUnavailableError: the scheduler is closed.
            InvalidRequestError: it declares a stream without a period or a deadline.
        """
        if not self._is_open:
            raise ServerUnavailableError("the server is shutting down; ask another one, or again later")
        state = self._state
        self._now_ns = now_ns
        model = self._model(request.model)
        if state.version != state.times.version:
            state.renew()
        likely_ns = state.shares.arrived(model, request.rows, now_ns)
        if model.waiting >= model.queue_size:
            raise QueueFullError(
                f"the queue of model {model.name!r} is full ({model.queue_size} requests waiting); try again later",
                retry_after_s=max(0.001, model.typical_ns(request.rows) / 1e9),
            )
        job = self._job(model, request)
        if job.deadline_ns <= now_ns:
            raise DeadlineExpiredError(
                f"the deadline passed {(now_ns - job.deadline_ns) / 1e6:.3f} ms before the request could be taken in"
            )
        if job.deadline_ns != NEVER or state.streams.live:
            self._admission.check(job, request.stream, request.arrival_ns, now_ns)
        model.tallest = max(model.tallest, request.rows)
        state.shares.taken(model, likely_ns)
        state.backlog.add(job, now_ns, 1 if job.deadline_ns != NEVER else state.active(now_ns))
        if model.segments > 1 and model.busy >= model.slots:
            self._inherit(model)

    def next(self, now_ns: int) -> Optional[Dispatch]:
        """The run to start now, for the caller to start and report to `finish`; None if nothing may start."""
        state = self._state
        self._now_ns = now_ns
        if not state.backlog:
            return None
        if state.version != state.times.version:
            state.renew()
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
            return
        state.renew()
        state.backlog.add(rest_of(job), now_ns, 1)
        self._inherit(model)

    def take_expired(self, now_ns: int) -> List[Request]:
        """Takes out and gives those that couldn't keep their deadline even if they started now."""
        state = self._state
        state.renew()
        jobs = state.backlog.expired(now_ns)
        for job in jobs:
            state.backlog.remove(job, now_ns, 1)
        return [job.requests[0] for job in jobs]

    def next_expiry_ns(self) -> Optional[int]:
        """When `take_expired` should be called next at the latest; None if nothing can expire."""
        self._state.renew()
        return self._state.backlog.next_expiry_ns()

    def withdraw(self, request: Request) -> bool:
        """Takes out a request that nobody waits for any more; False if it doesn't wait, or its chain has begun."""
        job = self._state.backlog.jobs.get(request)
        if job is None:
            return False
        self._state.backlog.remove(job, self._now_ns, self._state.active(self._now_ns))
        return True

    def waiting(self, model: Optional[str] = None) -> int:
        """How many requests wait, of one model or of all; chains that have begun aren't among them."""
        if model is not None:
            return self._model(model).waiting
        return sum([each.waiting for each in self._state.models.values()])

    @property
    def is_idle(self) -> bool:
        """Whether nothing is handed out and nothing waits, chains that have begun among it."""
        return not self._state.lanes.out and not self._state.backlog

    def close(self) -> List[Request]:
        """Admits nothing from here on and gives back all that wait; chains that have begun go on."""
        self._is_open = False
        jobs = list(self._state.backlog.jobs.values())
        for job in reversed(jobs):
            self._state.backlog.remove(job, 0, 1)
        return [job.requests[0] for job in jobs]

    def _model(self, name: str) -> Model:
        model = self._state.models.get(name)
        if model is None:
            raise UnknownNameError(f"no model {name!r} is registered; {nearest(name, self._state.models)}")
        return model

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
            state.backlog.remove(each, now_ns, active)
        if not run.segment:
            run.model.busy += 1
            if run.model.segments > 1 and run.model.busy >= run.model.slots:
                self._inherit(run.model)
        return state.lanes.hand_out(run, lane, now_ns)

    def _inherit(self, model: Model) -> None:
        """Lets the first begun chain of a model run before those that wait for its slot."""
        backlog, heir = self._state.backlog, self._state.heir(model)
        if heir is not None and heir in backlog.begun():
            backlog.inherit(heir, self._state.waiting_of(model))
