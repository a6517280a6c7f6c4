"""All that the scheduler knows, for those who decide."""

from __future__ import annotations

from typing import Dict, List

from edge_runtime.errors import UnknownNameError, nearest
from edge_runtime.scheduling.backlog import Backlog, by_key, inherited_key
from edge_runtime.scheduling.forecast import Situation
from edge_runtime.scheduling.job import NEVER, Job, Model
from edge_runtime.scheduling.lanes import Lanes
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.scheduling.shares import Shares
from edge_runtime.scheduling.streams import Streams


class State:
    """Registered models, what runs, what waits, and what has been promised."""

    def __init__(self, times: ServiceTimes, lanes: int, depth: int) -> None:
        self.times = times
        self.models: Dict[str, Model] = {}
        self.lanes = Lanes(lanes, depth)
        self.backlog = Backlog()
        self.streams = Streams(lanes)
        self.shares = Shares(lanes)
        self.has_chains = False
        self.version = times.version

    def find(self, name: str) -> Model:
        """The registered model of that name.

        Raises:
            UnknownNameError: there is none.
        """
        model = self.models.get(name)
        if model is None:
            raise UnknownNameError(f"no model {name!r} is registered; {nearest(name, self.models)}")
        return model

    def remove(self, name: str) -> None:
        """Forgets a model of which nothing waits or runs."""
        model = self.models.pop(name)
        self.streams.drop(model)
        self.shares.drop(model)
        self.times.forget(name)
        self.has_chains = any(each.segments > 1 for each in self.models.values())

    def renew(self) -> None:
        """Takes over service times if they have changed since."""
        if self.version != self.times.version:
            self.version = self.times.version
            for model in self.models.values():
                model.forget()
            self.backlog.renew()
            if self.streams.live:
                self.streams.renew()

    def active(self, now_ns: int) -> int:
        """How many models share the lanes."""
        return self.shares.active(self.models.values(), now_ns)

    def take_in(self, job: Job, likely_ns: int, now_ns: int) -> None:
        """Lets a job wait that was promised its deadline, if it has one; `likely_ns` is what it counts as."""
        model = job.model
        model.tallest = max(model.tallest, job.rows)
        self.shares.taken(model, likely_ns)
        self.backlog.add(job, now_ns, 1 if job.deadline_ns != NEVER else self.active(now_ns))
        if model.segments > 1 and model.busy >= model.slots:
            self.inherit(model)

    def inherit(self, model: Model) -> None:
        """Lets the first begun chain of a model run before those that wait for its slot."""
        heir = self.heir(model)
        if heir is not None and heir in self.backlog.begun():
            self.backlog.inherit(heir, self.waiting_of(model))

    def situation(self, now_ns: int, candidate: Job | None = None) -> Situation:
        """What a forecast starts from, if one more waits."""
        lanes = self.lanes
        situation = Situation([max(now_ns, free_ns) for free_ns in lanes.free])
        if len(lanes.free) > 1 or self.has_chains:
            self._hold(situation, now_ns)
        if lanes.chains:
            for end_ns, job in lanes.running(now_ns):
                rest = self._rest(job, candidate)
                if rest is not None:
                    situation.coming.append((end_ns, rest))
        if self.streams.live:
            situation.streams = self.streams.coming(now_ns)
        return situation

    def _hold(self, situation: Situation, now_ns: int) -> None:
        lanes = len(situation.free)
        situation.held = {model: [] for model in self.models.values() if model.slots < lanes or model.segments > 1}
        if not situation.held:
            return
        for end_ns, job in self.lanes.running(now_ns):
            model = job.model
            if model in situation.held:
                if job.segment + 1 < model.segments:
                    situation.begun[model] = situation.begun.get(model, 0) + 1
                else:
                    situation.held[model].append(end_ns)
        for job in self.backlog.begun():
            situation.begun[job.model] = situation.begun.get(job.model, 0) + 1

    def _rest(self, job: Job, candidate: Job | None) -> Job | None:
        """What is left of a chain that runs; None if nothing is, or if it will give way."""
        if job.segment + 1 >= job.model.segments:
            return None
        rest = rest_of(job)
        waiting: List[Job] = []
        if self.heir(job.model) is job:
            waiting = self.waiting_of(job.model)
            if candidate is not None and candidate.model is job.model:
                waiting = sorted([*waiting, candidate], key=by_key)
        key = inherited_key(rest, waiting)
        if key is None and not rest.is_urgent:
            return None
        rest.key = key or rest.key
        return rest

    def heir(self, model: Model) -> Job | None:
        """The chain that will be the first of a model to give its slot back; None if its last segment runs already."""
        running = [job for _, job in self.lanes.running(0) if job.model is model]
        if any(job.segment + 1 >= model.segments for job in running):
            return None
        chains = [*running, *[job for job in self.backlog.begun() if job.model is model]]
        return min(chains, key=by_key) if chains else None

    def waiting_of(self, model: Model) -> List[Job]:
        """The jobs of a model that wait and have a deadline, in order."""
        return [job for job in self.backlog.urgent.jobs if job.model is model and not job.segment]


def rest_of(job: Job) -> Job:
    """What is left of a chain after the segment that runs."""
    rest = Job(job.model, job.requests, job.key, job.deadline_ns, job.rows)
    rest.segment = job.segment + 1
    rest.stream = job.stream
    rest.is_urgent = job.is_urgent
    rest.own = job.own
    rest.cost_ns = job.model.rest_ns(job.rows, rest.segment)
    return rest
