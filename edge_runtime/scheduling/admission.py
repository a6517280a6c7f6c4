"""Whether a request can be promised its deadline without breaking a promise made before."""

from __future__ import annotations

from typing import List

from edge_runtime.errors import DeadlineRefusedError, InvalidRequestError
from edge_runtime.scheduling.batching import harm
from edge_runtime.scheduling.forecast import ENDLESS, Late, least_late
from edge_runtime.scheduling.job import NEVER, Job, Model
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Period
from edge_runtime.scheduling.shares import WINDOW_NS
from edge_runtime.scheduling.state import State
from edge_runtime.scheduling.streams import MOST_STREAMS, Stream

SHORTEST_S = 0.001  # of the hint when to ask again


class Admission:
    """The admission test: declared streams by the exact test, everything else by predicted completion."""

    def __init__(self, state: State) -> None:
        self._state = state
        lanes = len(state.lanes.free)
        self._room = Model(ModelPolicy("room for others", lanes, 0), state.times)

    def check(self, job: Job, period: Period | None, arrival_ns: int, now_ns: int) -> None:
        """Returns if the job may wait.

        Raises:
            DeadlineRefusedError: it, or another one that was promised its deadline, couldn't keep it.
            InvalidRequestError: it declares a stream without a period or a deadline.
        """
        streams = self._state.streams
        if period is None and not streams.live:
            self._fit(job, now_ns)
            return
        streams.forget(now_ns)
        declared = None
        if period is not None:
            known = streams.live.get(period.key)
            if known is None:
                declared = self._declare(job, period, arrival_ns, now_ns)
            elif known.takes(job, arrival_ns, now_ns):
                known.last_ns = arrival_ns
                job.stream = known
                return
        try:
            self._leave_streams(job, declared)
            if job.deadline_ns != NEVER:
                self._fit(job, now_ns, declared)
        except DeadlineRefusedError:
            if declared is not None:
                streams.withdraw(declared)
            raise

    def _declare(self, job: Job, period: Period, arrival_ns: int, now_ns: int) -> Stream | None:
        """Takes a stream in, unless its service time is unknown or it has fewer slots than there are lanes."""
        state, model = self._state, job.model
        if period.period_ns < 1 or period.deadline_ns < 1:
            raise InvalidRequestError(
                f"the stream {period.key!r} declares a period of {period.period_ns} ns and a deadline of "
                f"{period.deadline_ns} ns; both must be at least 1"
            )
        if not job.cost_ns or model.slots < len(state.lanes.free):
            return None
        if len(state.streams.live) >= MOST_STREAMS:
            raise DeadlineRefusedError(
                f"the stream {period.key!r} is one too many: {MOST_STREAMS} are declared already, each until nothing "
                "came of it for ten periods; use one of their names, or leave out stream and period_ms"
            )
        stream = state.streams.declare(job, period, self._longest_ns(model, now_ns), arrival_ns)
        if stream is None:
            state.shares.forget(model)
            raise DeadlineRefusedError(
                f"the stream {period.key!r} of model {model.name!r} doesn't fit beside those that are declared: "
                f"{_ms(job.cost_ns)} every {_ms(period.period_ns)}, due in {_ms(period.deadline_ns)}; "
                "declare a longer period or deadline"
            )
        if job.deadline_ns >= arrival_ns + period.deadline_ns:
            job.stream = stream
        return stream

    def _longest_ns(self, model: Model, now_ns: int) -> int:
        """How long a lane may be held by what isn't declared: by models in use that have no stream.

        A model that isn't in use, or has a stream, is held back by what streams leave (`Streams.allows`). A chain that
        holds the slot for which a stream's request waits is added whole.
        """
        state = self._state
        since_ns = now_ns - WINDOW_NS
        streaming = {model, *[stream.model for stream in state.streams.live.values()]}
        used = [
            each
            for each in state.models.values()
            if each not in streaming and (each.arrival_ns >= since_ns or each.busy or each.waiting)
        ]
        runs = [each.segment_ns(each.tallest, segment) for each in used for segment in range(each.segments)]
        waiting = [each for each in state.backlog.jobs.values() if each.stream is None]
        runs += [
            each.model.segment_ns(each.rows, segment) for each in waiting for segment in range(each.model.segments)
        ]
        chains = [each.rest_ns(each.tallest) for each in streaming if each.segments > 1]
        return max(runs, default=0) + max(chains, default=0)

    def _leave_streams(self, job: Job, declared: Stream | None) -> None:
        streams, model = self._state.streams, job.model
        if declared is not None or not streams.live:
            return
        room_ns = streams.room_ns()
        longest_ns = max([model.segment_ns(job.rows, segment) for segment in range(model.segments)])
        if longest_ns > room_ns:
            raise DeadlineRefusedError(
                f"a run of model {model.name!r} takes {_ms(longest_ns)}, and the declared streams keep their deadlines "
                f"only beside runs of at most {_ms(room_ns)}; ask again when they have ended"
            )

    def _fit(self, job: Job, now_ns: int, declared: Stream | None = None) -> None:
        state = self._state
        backlog, lanes, model = state.backlog, state.lanes, job.model
        end_ns = self._soonest_ns(job, now_ns)
        if end_ns > job.deadline_ns:
            before_ns = sum([each.cost_ns for each in backlog.urgent.jobs if each.key < job.key])
            self._refuse(job, {job.key: end_ns + before_ns // len(lanes.free) - job.deadline_ns})
        if not backlog and not state.streams.live and not lanes.chains and model.busy < model.slots:
            return
        urgent = backlog.urgent
        jobs = self._with(job, now_ns)

        def baseline() -> Late:
            before = state.situation(now_ns)
            before.streams = state.streams.coming(now_ns, without=declared)
            return least_late(before, urgent.jobs)

        situation = state.situation(now_ns, job)
        found = harm(situation, jobs, baseline, job)
        if found:
            self._refuse(job, found)
        if declared is not None and len(lanes.free) > 1:
            self._fit_lane(job, declared.lane, now_ns)

    def _fit_lane(self, job: Job, lane: int, now_ns: int) -> None:
        """Whether a stream's first request and all others of its lane are in time on that lane alone."""
        state = self._state
        own = [each for each in state.backlog.urgent.jobs if each.stream is not None and each.stream.lane == lane]
        end_ns = max(now_ns, state.lanes.free[lane])
        if not state.streams.withstands(lane, now_ns, end_ns, [*own, job]):
            self._refuse(job, {job.key: end_ns - now_ns + job.cost_ns})

    def _soonest_ns(self, job: Job, now_ns: int) -> int:
        free = self._state.lanes.free
        return max(now_ns, min(free) if len(free) > 1 else free[0]) + job.cost_ns

    def _with(self, job: Job, now_ns: int) -> List[Job]:
        """All that have a deadline and the new one in their order, with what would have to come before it."""
        room = self._room_before(job, now_ns)
        chain = self._chain_before(job)
        before = [each for each in (chain, room) if each is not None]
        jobs = self._state.backlog.urgent.with_job(*before, job)
        if chain is not None and chain.is_urgent:
            del jobs[len(jobs) - 1 - jobs[::-1].index(chain)]  # where it was
        return jobs

    def _chain_before(self, job: Job) -> Job | None:
        """A chain that would have to end first, as it holds the slot that the new one needs."""
        model = job.model
        if model.segments == 1 or model.busy < model.slots:
            return None
        heir = self._state.heir(model)
        if heir is None or heir not in self._state.backlog.begun() or (heir.is_urgent and heir.key < job.key):
            return None
        return heir

    def _room_before(self, job: Job, now_ns: int) -> Job | None:
        """What must be left free for others, as a job that runs just before this one."""
        state = self._state
        if len(state.models) == 1 and not state.backlog.easy.jobs:
            return None
        streaming = {stream.model for stream in state.streams.live.values()}  # they have room already
        backlog = {model: 0 for model in state.models.values() if model not in streaming or model is job.model}
        for each in state.backlog.urgent.jobs:
            if each.model in backlog:
                backlog[each.model] += each.cost_ns
        ahead_ns = 0
        for model in backlog if state.backlog.easy.jobs else ():
            for rank, turns in model.easy.items():
                if rank < job.key[0]:
                    ahead_ns += sum([each.cost_ns for each in turns])
        backlog[job.model] += job.cost_ns
        ahead_ns += state.shares.room_ns(job.model, backlog, job.deadline_ns - now_ns, now_ns)
        if not ahead_ns:
            return None
        room = Job(self._room, (), (job.key[0], job.key[1], job.key[2] - 1), NEVER, 1)
        room.cost_ns = ahead_ns
        return room

    def _refuse(self, job: Job, found: Late) -> None:
        own_ns = found.get(job.key, 0)
        short_ns = own_ns or max(found.values(), default=0)
        whose = "it would be done" if own_ns else "another one that was taken in before would be done"
        raise DeadlineRefusedError(
            f"the deadline can't be kept: {whose} {_ms(short_ns)} too late; ask again later, or with a later deadline",
            retry_after_s=max(SHORTEST_S, short_ns / 1e9),
            late_ns=0 if ENDLESS in found else short_ns,
        )


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms"
