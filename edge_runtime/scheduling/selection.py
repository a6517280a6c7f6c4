"""What runs next on a lane."""

from __future__ import annotations

from typing import Dict, Hashable, List, Tuple

from edge_runtime.scheduling.backlog import by_key
from edge_runtime.scheduling.batching import Growth, companions, harm
from edge_runtime.scheduling.forecast import Late, least_late
from edge_runtime.scheduling.job import Job
from edge_runtime.scheduling.state import State


class Selection:
    """The first in the order that may start, with as many of its group as do no harm."""

    def __init__(self, state: State) -> None:
        self._state = state

    def choose(self, lane: int, now_ns: int) -> List[Job]:
        """The jobs that share the next run of a lane; none if nothing may start there.

        A lane that is busy is given a further run only if that is the very first in the order: it can't be overtaken.
        """
        is_busy = self._state.lanes.is_busy(lane)
        chain = self._first_chain() if is_busy else None
        put_off: Job | None = None
        for job in self._state.backlog.ordered():
            if chain is not None and chain.key < job.key:
                return []
            is_held = job.segment == 0 and job.model.busy >= job.model.slots
            if not is_held and self._is_allowed(job, lane, now_ns):
                if job.is_urgent or self._is_harmless(job, lane, now_ns):
                    return self._grown(self._in_turn(job, lane, now_ns), lane, now_ns)
                put_off = put_off or job
            elif not is_held and put_off is None and self._is_too_long(job):
                put_off = job
            if is_busy:
                return []
        return [put_off] if put_off is not None else []

    def _is_too_long(self, job: Job) -> bool:
        """Whether no lane could ever take a job beside the streams: its model has become slower since it was taken in.

        It runs when nothing else can: no lane is left idle for what can't be promised any more.
        """
        run_ns = job.model.segment_ns(job.rows, job.segment)
        return job.stream is None and run_ns > self._state.streams.room_ns()

    def _first_chain(self) -> Job | None:
        """The first of the chains that run and go on."""
        lanes = self._state.lanes
        if not lanes.chains:
            return None
        goes_on = [job for _, job in lanes.running(0) if job.segment + 1 < job.model.segments]
        return min(goes_on, key=by_key)

    def _run(self, job: Job, lane: int, now_ns: int) -> Tuple[int, int]:
        start_ns = max(now_ns, self._state.lanes.free[lane]) if self._state.lanes.is_busy(lane) else now_ns
        return start_ns, start_ns + job.model.segment_ns(job.rows, job.segment)

    def _is_allowed(self, job: Job, lane: int, now_ns: int) -> bool:
        """Whether the declared streams bear it; theirs start on their own lane if it is free."""
        state = self._state
        if not state.streams.live:
            return True
        own = job.stream.lane if job.stream is not None else lane
        if own != lane and not state.lanes.is_busy(own):
            return False
        return state.streams.allows(job, self._run(job, lane, now_ns), lane, now_ns, state.backlog.urgent.jobs)

    def _is_harmless(self, job: Job, lane: int, now_ns: int) -> bool:
        """Whether one that isn't the next by its deadline makes nobody miss one."""
        urgent = self._state.backlog.urgent.jobs
        if job.is_urgent:
            urgent = [each for each in urgent if each is not job]
        if not urgent and not self._state.lanes.chains:
            return True
        situation = self._state.situation(now_ns)

        def baseline() -> Late:
            return least_late(situation, urgent)

        return not harm(situation.after(lane, job.model, situation.free[lane] + job.cost_ns), urgent, baseline)

    def _in_turn(self, job: Job, lane: int, now_ns: int) -> Job:
        """The first of the client of the model that has had the least service, if it may run and harms nobody.

        A generous deadline would make everybody wait behind those who have asked before, or without one. As long as all
        are kept in any order, clients take turns; the first by its deadline goes first if nothing else of its client
        waits.
        """
        model, rank, urgent = job.model, job.key[0], self._state.backlog.urgent.jobs
        if len(model.clients) < 2 or not urgent or job.segment or job.stream is not None:
            return job
        if job.is_urgent and model.clients[job.requests[0].client] == 1:
            return job
        firsts: Dict[Hashable, Job] = {}
        for each in urgent:
            if each.model is model and each.key[0] == rank and not each.segment and each.stream is None:
                firsts.setdefault(each.requests[0].client, each)
        turns = model.turns(rank)
        if turns.first is not None:
            firsts.setdefault(turns.first.requests[0].client, turns.first)
        chosen = min(
            [
                (turns.start_ns(client), client == turns.latest, model.clients[client], each.key, each)
                for client, each in firsts.items()
            ]
        )[-1]
        if chosen is job or not self._is_allowed(chosen, lane, now_ns):
            return job
        return chosen if self._is_harmless(chosen, lane, now_ns) else job

    def _grown(self, job: Job, lane: int, now_ns: int) -> List[Job]:
        state = self._state
        if job.group is None or job.segment or job.model.waiting == 1:
            return [job]
        members = companions(job, state.backlog.of_group(job))
        if len(members) == 1:
            return members
        start_ns, _ = self._run(job, lane, now_ns)
        urgent = state.backlog.urgent.jobs

        def allows(end_ns: int) -> bool:
            return not state.streams.live or state.streams.allows(job, (start_ns, end_ns), lane, now_ns, urgent)

        return Growth(members, (lane, start_ns), state.situation(now_ns), urgent).largest(allows)
