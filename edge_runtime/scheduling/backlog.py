"""Everything that waits, in the order in which it may start."""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Sequence

from edge_runtime.scheduling.job import NEVER, Job, Key, Model
from edge_runtime.scheduling.line import Line
from edge_runtime.scheduling.request import Request


class Backlog:
    """Jobs with a deadline, and those without, of which the first of each model and rank takes part in the order.

    Those without are given a virtual deadline when they become the first, by the rule of the constant bandwidth server
    (Abeni & Buttazzo, "Integrating multimedia applications in hard real-time systems", RTSS 1998): the cost, stretched
    by the number of active models, after the model's last one or from now on.

    Attributes:
        jobs: everything that waits and hasn't begun, by request.
    """

    def __init__(self) -> None:
        self.urgent = Line()
        self.easy = Line()
        self.jobs: Dict[Request, Job] = {}
        self._expiry_ns = NEVER

    def __bool__(self) -> bool:
        return bool(self.urgent.jobs or self.easy.jobs)

    def add(self, job: Job, now_ns: int, active: int) -> None:
        """Lets a job wait; `active` is the number of models that share the lanes."""
        if not job.segment:
            request, model = job.requests[0], job.model
            self.jobs[request] = job
            model.waiting += 1
            model.clients[request.client] = model.clients.get(request.client, 0) + 1
        if job.is_urgent:
            self.urgent.add(job)
            if not job.segment:
                self._expiry_ns = min(self._expiry_ns, _expiry_ns(job))
        elif job.segment:
            self.easy.add(job)
        else:
            turns = model.turns(job.key[0])
            before = turns.first
            turns.add(job)
            if turns.first is not before:
                self._pass_turn(before, turns.first, now_ns, active)

    def remove(self, job: Job, now_ns: int, active: int, used_ns: int = 0) -> None:
        """Takes a job out that waits; `used_ns` is the service time that its client gets by it."""
        is_contended = len(job.model.clients) > 1
        if not job.segment:
            request, model = job.requests[0], job.model
            del self.jobs[request]
            model.waiting -= 1
            left = model.clients[request.client] - 1
            if left:
                model.clients[request.client] = left
            else:
                del model.clients[request.client]
        if job.is_urgent:
            self.urgent.remove(job)
            if used_ns and not job.segment:
                turns, client = job.model.turns(job.key[0]), job.requests[0].client
                if is_contended or client != turns.latest:  # who is alone was charged for a turn already
                    before = turns.first
                    turns.charge(client, used_ns)
                    if turns.first is not before:
                        self._pass_turn(before, turns.first, now_ns, active)
        elif job.segment:
            self.easy.remove(job)
        else:
            turns = model.turns(job.key[0])
            before = turns.first
            turns.remove(job, used_ns)
            if before is job:
                self.easy.remove(job)
                before = None
            if turns.first is not before:
                self._pass_turn(before, turns.first, now_ns, active)

    def ordered(self) -> Iterator[Job]:
        """What may start, the first first; a snapshot."""
        if not self.easy.jobs:
            return iter(self.urgent.jobs)
        if not self.urgent.jobs:
            return iter(self.easy.jobs)
        return iter(sorted([*self.urgent.jobs, *self.easy.jobs], key=by_key))

    def first_key(self) -> Optional[Key]:
        """The place of the first that may start."""
        return min([line.keys[0] for line in (self.urgent, self.easy) if line.keys], default=None)

    def of_group(self, head: Job) -> Iterator[Job]:
        """Those that might share a run with `head`, in order; all others may be among them."""
        yield from self.urgent.jobs
        turns = head.model.easy
        for rank in sorted(turns):
            yield from turns[rank]

    def begun(self) -> List[Job]:
        """What is left of chains whose next segment waits."""
        return [job for job in (*self.urgent.jobs, *self.easy.jobs) if job.segment]

    def inherit(self, chain: Job, waiting: Sequence[Job]) -> None:
        """Moves the rest of a chain ahead of the first of its model that waits for its slot."""
        key = inherited_key(chain, waiting)
        if key is not None and not (chain.is_urgent and key == chain.key):
            self._place(chain, key, True)

    def disinherit(self, model: Model) -> None:
        """Gives chains of a model their own places back, when one of its slots is free."""
        for chain in self.begun():
            if chain.model is model and chain.key != chain.own:
                self._place(chain, chain.own, chain.deadline_ns != NEVER)

    def _place(self, chain: Job, key: Key, is_urgent: bool) -> None:
        (self.urgent if chain.is_urgent else self.easy).remove(chain)
        chain.key, chain.is_urgent = key, is_urgent
        (self.urgent if is_urgent else self.easy).add(chain)

    def renew(self) -> None:
        """Takes over service times that have changed."""
        for job in (*self.jobs.values(), *self.begun()):
            job.cost_ns = job.model.rest_ns(job.rows, job.segment)
        self._expiry_ns = min([_expiry_ns(job) for job in self.urgent.jobs if not job.segment], default=NEVER)

    def expired(self, now_ns: int) -> List[Job]:
        """Those that couldn't keep their deadline even if they started now."""
        if now_ns < self._expiry_ns:
            return []
        found = [job for job in self.urgent.jobs if not job.segment and _expiry_ns(job) <= now_ns]
        kept = [_expiry_ns(job) for job in self.urgent.jobs if not job.segment]
        self._expiry_ns = min([each for each in kept if each > now_ns], default=NEVER)
        return found

    def next_expiry_ns(self) -> Optional[int]:
        """When `expired` may find something; never too late, perhaps too early."""
        return None if not self.urgent.jobs or self._expiry_ns == NEVER else self._expiry_ns

    def _pass_turn(self, before: Optional[Job], job: Optional[Job], now_ns: int, active: int) -> None:
        """Makes a job the first of its model and rank, in the place of the one that was so far, if one still waits."""
        if job is None:
            return
        model = job.model
        if before is None:
            model.virtual_ns = virtual_ns = max(now_ns, model.virtual_ns) + job.cost_ns * active
        else:
            self.easy.remove(before)
            more_ns = (job.cost_ns - before.cost_ns) * active
            model.virtual_ns += more_ns
            virtual_ns = before.key[1] + more_ns
        job.key = job.own = (job.key[0], virtual_ns, job.key[2])
        self.easy.add(job)


def inherited_key(chain: Job, waiting: Sequence[Job]) -> Optional[Key]:
    """The place of a chain that holds the slot for which jobs of its model wait, sorted; None if none does.

    It is before the first of them. A chain without a deadline gave way until then, whatever its own key says.
    """
    if not waiting or chain.model.busy < chain.model.slots:
        return None
    rank, deadline_ns, sequence = waiting[0].key
    before = (rank, deadline_ns, sequence - 1)
    return min(chain.key, before) if chain.is_urgent else before


def by_key(job: Job) -> Key:
    """What jobs are sorted by."""
    return job.key


def _expiry_ns(job: Job) -> int:
    return job.deadline_ns - job.model.typical_ns(job.rows) + 1
