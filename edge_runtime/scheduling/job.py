"""What the scheduler keeps of a request that waits, and of its model."""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Tuple

from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.scheduling.turns import Turns

NEVER = 1 << 62  # later than any deadline
_MANY_RANKS = 64
Key = Tuple[int, int, int]


class Model:
    """A registered model: its limits, what of it is out and waits, and its service times as they are planned with."""

    __slots__ = (
        "arrival_ns",
        "busy",
        "clients",
        "easy",
        "max_batch",
        "name",
        "policy",
        "pressed_by",
        "pressed_ns",
        "queue_size",
        "segments",
        "slots",
        "tallest",
        "times",
        "typical",
        "virtual_ns",
        "waiting",
        "worst",
    )

    def __init__(self, policy: ModelPolicy, times: ServiceTimes) -> None:
        self.policy = policy
        self.name = policy.name
        self.slots = policy.slots
        self.queue_size = policy.queue_size
        self.max_batch = policy.max_batch
        self.segments = policy.segments
        self.times = times
        self.busy = 0  # slots taken
        self.waiting = 0  # requests
        self.clients: Dict[Hashable, int] = {}  # how many of them are each one's
        self.easy: Dict[int, Turns[Job]] = {}  # those without a deadline by rank; the first takes part in the order
        self.virtual_ns = 0  # the last deadline given to one of them
        self.arrival_ns = -NEVER  # the last one
        self.pressed_ns = -NEVER  # when a client was turned away that had less than its share
        self.pressed_by: Hashable = None  # which
        self.tallest = 1  # the most rows of a request so far
        self.worst: Dict[int, List[int]] = {}
        self.typical: Dict[int, int] = {}

    def forget(self) -> None:
        """Asks for service times anew from here on."""
        self.worst.clear()
        self.typical.clear()

    def rest_ns(self, rows: int, segment: int = 0) -> int:
        """The worst time of all segments from this one on; 0 while it is unknown."""
        rest = self.worst.get(rows)
        if rest is None:
            rest = [0]
            for each in range(self.segments - 1, -1, -1):
                rest.append(rest[-1] + (self.times.worst_ns(self.name, each, rows) or 0))
            rest.reverse()
            self.worst[rows] = rest
        return rest[segment]

    def segment_ns(self, rows: int, segment: int) -> int:
        """The worst time of one segment; 0 while it is unknown."""
        return self.rest_ns(rows, segment) - self.worst[rows][segment + 1]

    def typical_ns(self, rows: int) -> int:
        """The typical time of all segments; 0 while it is unknown."""
        known = self.typical.get(rows)
        if known is None:
            known = sum(self.times.typical_ns(self.name, each, rows) or 0 for each in range(self.segments))
            self.typical[rows] = known
        return known

    def turns(self, rank: int) -> Turns[Job]:
        """Those of a rank that wait without a deadline."""
        found = self.easy.get(rank)
        if found is None:
            if len(self.easy) >= _MANY_RANKS:  # which are the clients' choice
                self.easy = {each: turns for each, turns in self.easy.items() if turns.first is not None}
            found = self.easy[rank] = Turns()
        return found


class Job:
    """One request that waits, or several that share a chain which has begun (`segment` > 0)."""

    __slots__ = (
        "cost_ns",
        "deadline_ns",
        "group",
        "is_urgent",
        "key",
        "model",
        "own",
        "requests",
        "rows",
        "segment",
        "stream",
    )

    def __init__(self, model: Model, requests: Tuple[Request, ...], key: Key, deadline_ns: int, rows: int) -> None:
        self.model = model
        self.requests = requests
        self.key = key  # rank, deadline (a virtual one if it has none), sequence
        self.deadline_ns = deadline_ns
        self.rows = rows
        self.is_urgent = deadline_ns != NEVER  # or it holds the slot for which such a one waits
        self.own = key  # its key, but while it has inherited another
        self.segment = 0
        self.group: Hashable = None
        self.stream: Any = None  # the declared stream whose promise covers it
        self.cost_ns = 0  # the worst time that is left
