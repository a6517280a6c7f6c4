"""Requests of several models with deadlines, at any load, on virtual time."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from edge_runtime.scheduling.request import Period, Request
from edge_runtime.scheduling.scheduler import PATIENCE_NS, Dispatch, ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

MS = 1_000_000
SPREAD = 0.2  # service times vary by so much around the typical one


@dataclass(frozen=True)
class Source:
    """Where requests come from: a model, its share of the load, and how soon its answers are due.

    Attributes:
        model: its name.
        typical_ms: one run of one row.
        share: of the offered load.
        due: deadlines, as the least and the most multiple of the typical time; None: no deadline.
        arrivals: "poisson"; "periodic", with a jitter of a tenth of the period; "declared", at least a period apart.
        row_ms: what each further row of a run adds, if requests may share one.
        segments: equal parts that ours may run with others in between.
    """

    model: str
    typical_ms: float
    share: float
    due: Optional[Tuple[float, float]]
    arrivals: str = "poisson"
    row_ms: Optional[float] = None
    segments: int = 1

    def run_ms(self, rows: int) -> float:
        """The typical time of a run."""
        return self.typical_ms + (rows - 1) * (self.row_ms if self.row_ms is not None else self.typical_ms)

    @property
    def max_batch(self) -> int:
        """How many requests share a run at most."""
        return 8 if self.row_ms is not None else 0

    @property
    def cost_ms(self) -> float:
        """What a request costs; where runs are shared, when four share one."""
        return self.run_ms(4) / 4 if self.max_batch else self.typical_ms


MIXES: Dict[str, Tuple[Source, ...]] = {
    "tight, 2-3 C": tuple(Source(f"m{ms}", ms, 1 / 3, (2, 3)) for ms in (4, 5, 6)),
    "tight, unlike C": tuple(Source(f"m{ms}", ms, 1 / 3, (2, 3)) for ms in (2, 4, 8)),
    "medium, 5-10 C": tuple(Source(f"m{ms}", ms, 1 / 3, (5, 10)) for ms in (2, 4, 8)),
    "loose, 20-50 C": tuple(Source(f"m{ms}", ms, 1 / 3, (20, 50)) for ms in (2, 4, 8)),
    "robot": (
        Source("detector", 6, 0.5, (3, 3), "periodic"),
        Source("classifier", 1, 0.2, (8, 20)),
        Source("reader", 12, 0.2, (15, 40)),
        Source("archive", 10, 0.1, None),
    ),
    "robot, long models split": (
        Source("detector", 6, 0.5, (3, 3), "periodic"),
        Source("classifier", 1, 0.2, (8, 20)),
        Source("reader", 12, 0.2, (15, 40), segments=6),
        Source("archive", 10, 0.1, None, segments=5),
    ),
    "cameras, 3 C": tuple(Source(f"camera{ms}", ms, 1 / 3, (3, 3), "periodic") for ms in (3, 4, 5)),
    "declared, and 5-10 C": (
        Source("camera4", 4, 0.3, (3.3, 3.3), "declared"),
        Source("camera5", 5, 0.3, (3.3, 3.3), "declared"),
        Source("other", 3, 0.4, (5, 10)),
    ),
    "shared runs, 5-10 C": tuple(Source(f"m{ms}", ms, 0.5, (5, 10), "poisson", 0.4 * ms) for ms in (3, 5)),
}


class Mix:
    """A reproducible trace of a mix at a load, with the true service time of each run."""

    def __init__(self, sources: Tuple[Source, ...], load: float, count: int, seed: int) -> None:
        self.sources = {source.model: source for source in sources}
        rng = random.Random(seed)
        rates = {source: load * source.share / source.cost_ms for source in sources}  # requests a millisecond
        self.span_ms = count / sum(rates.values())
        made: List[Request] = []
        for source, rate in rates.items():
            made += [
                self._request(source, at_ms, 1 / rate, rng) for at_ms in _arrivals(source, rate, self.span_ms, rng)
            ]
        self.requests = sorted(made, key=lambda request: request.arrival_ns)
        self._factors = {request: rng.uniform(1 - SPREAD, 1 + SPREAD) for request in self.requests}

    def duration_ns(self, dispatch: Any) -> int:
        """The true time of a run: it goes with the first of its requests, so it is the same for every scheduler."""
        source = self.sources[dispatch.model]
        whole_ms = source.run_ms(dispatch.rows) * self._factors[dispatch.requests[0]]
        return int(whole_ms * MS / (source.segments if isinstance(dispatch, Dispatch) else 1))

    def alone_ns(self, request: Request) -> int:
        """The true time of a run of one request."""
        return int(self.sources[request.model].run_ms(request.rows) * self._factors[request] * MS)

    def scheduler(self, seed: int = 0) -> Scheduler:
        """Ours, for one lane, after 64 runs of each size."""
        rng = random.Random(seed)
        times = ServiceTimes()
        made = Scheduler(times, 1, patience_ns=PATIENCE_NS)
        for name, source in self.sources.items():
            made.register(ModelPolicy(name, 4, 256, source.max_batch, source.segments))
            for segment, rows in itertools.product(range(source.segments), range(1, max(1, source.max_batch) + 1)):
                part_ms = source.run_ms(rows) / source.segments
                for _ in range(64):
                    times.observe(name, segment, rows, int(part_ms * rng.uniform(1 - SPREAD, 1 + SPREAD) * MS))
        return made

    def longest(self) -> ServiceTimes:
        """The longest that any run may take."""
        times = ServiceTimes(margin=0)
        for name, source in self.sources.items():
            for segment, rows in itertools.product(range(source.segments), range(1, max(1, source.max_batch) + 1)):
                times.seed(name, segment, rows, int(source.run_ms(rows) / source.segments * (1 + SPREAD) * MS))
        return times

    def _request(self, source: Source, at_ms: float, period_ms: float, rng: random.Random) -> Request:
        arrival_ns = int(at_ms * MS)
        request = Request(source.model, {}, dict, print, arrival_ns)
        if source.due is not None:
            request.deadline_ns = arrival_ns + int(source.typical_ms * rng.uniform(*source.due) * MS)
            if source.arrivals == "declared":
                request.stream = Period(source.model, int(period_ms * MS), request.deadline_ns - arrival_ns)
        request.group = "same" if source.max_batch else None
        return request


def _arrivals(source: Source, rate: float, span_ms: float, rng: random.Random) -> List[float]:
    at_ms, found = rng.uniform(0, 1 / rate), []
    place = at_ms
    while place < span_ms:
        found.append(place)
        if source.arrivals == "poisson":
            place += rng.expovariate(rate)
        elif source.arrivals == "declared":
            place += (1 + rng.uniform(0, 0.02)) / rate
        else:
            at_ms += 1 / rate
            place = max(place, at_ms + rng.uniform(-0.1, 0.1) / rate)
    return found
