"""Which refusals had to be: where no promise could be made that holds however long the runs take."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Set

from deadline_mixes import Mix

from edge_runtime.errors import DeadlineRefusedError
from edge_runtime.scheduling.forecast import Situation, least_late
from edge_runtime.scheduling.job import Job, Model
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.scheduler import Scheduler


class Watched:
    """Ours, and the requests among those it refused that it would have refused knowing the true longest times.

    It looks into the scheduler: who waits and what runs, and forecasts with the longest times that runs may take in
    this mix in place of those that were learnt, with no margin and nothing left free for other models.
    """

    def __init__(self, scheduler: Scheduler, mix: Mix) -> None:
        self._scheduler = scheduler
        self._state = scheduler._state
        times = mix.longest()
        self._models: Dict[str, Model] = {
            name: Model(model.policy, times) for name, model in scheduler._state.models.items()
        }
        self.had_to: Set[Request] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def admit(self, request: Request, now_ns: int) -> None:
        """Hands it on, and looks into a refusal, or into why it has to wait for a promise: it may be refused yet."""
        try:
            self._scheduler.admit(request, now_ns)
        except DeadlineRefusedError:
            if self._must_refuse(request, now_ns):
                self.had_to.add(request)
            raise
        if request not in self._state.backlog.jobs and self._must_refuse(request, now_ns):
            self.had_to.add(request)

    def _must_refuse(self, request: Request, now_ns: int) -> bool:
        state = self._state
        waiting = self._clones(state.backlog.urgent.jobs)
        candidate = self._clone(self._scheduler._job(state.models[request.model], request))
        situation = self._situation(now_ns)
        with_it = least_late(situation, sorted([*waiting, candidate], key=lambda job: job.key))
        return not with_it.keys() <= least_late(situation, waiting).keys()

    def _situation(self, now_ns: int) -> Situation:
        known = self._state.situation(now_ns)
        free_ns = now_ns
        for _, job in self._state.lanes.running(now_ns):
            started_ns = next(iter(self._state.lanes._queues[0])).start_ns
            free_ns = max(now_ns, started_ns + self._models[job.model.name].segment_ns(job.rows, job.segment))
        situation = Situation([free_ns])
        situation.coming = [(free_ns, self._clone(job)) for _, job in known.coming]
        situation.streams = [(at, period, self._clone(job)) for at, period, job in known.streams]
        return situation

    def _clones(self, jobs: Sequence[Job]) -> List[Job]:
        return [self._clone(job) for job in jobs]

    def _clone(self, job: Job) -> Job:
        clone = Job(self._models[job.model.name], job.requests, job.key, job.deadline_ns, job.rows)
        clone.segment, clone.group = job.segment, job.group
        clone.cost_ns = clone.model.rest_ns(job.rows, job.segment)
        return clone
