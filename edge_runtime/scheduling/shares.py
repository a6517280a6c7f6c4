"""Which models get more than their share, and what must be left for the others."""

from __future__ import annotations

from math import sqrt
from typing import Dict, Iterable, List

from edge_runtime.scheduling.job import NEVER, Model

WINDOW_NS = 1_000_000_000
_LEAST = 0.1  # of a window must have passed before its rates are believed
_SLIGHT = 8  # leaving room costs little if it is at most this part of the time until a deadline


class _Rates:
    """Time that was asked for, or given, a second: a sliding window from two buckets."""

    __slots__ = ("before", "now")

    def __init__(self) -> None:
        self.now: Dict[Model, int] = {}
        self.before: Dict[Model, int] = {}

    def turn(self, is_next: bool) -> None:
        """Begins a new bucket."""
        self.before = self.now if is_next else {}
        self.now = {}

    def of(self, model: Model, weight: float) -> float:
        """What a model had within the last window, in nanoseconds; `weight` is how much of the old bucket counts."""
        return self.now.get(model, 0) + self.before.get(model, 0) * weight


class Shares:
    """Arrivals of the last second: who is active, how much time all asked for, and how much they were promised."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._began_ns = -NEVER
        self._asked = _Rates()
        self._given = _Rates()

    def arrived(self, model: Model, rows: int, now_ns: int) -> int:
        """Counts a request, whatever becomes of it; what it is likely to cost when the lanes are full."""
        model.arrival_ns = now_ns
        if now_ns - self._began_ns >= WINDOW_NS:
            is_next = now_ns - self._began_ns < 2 * WINDOW_NS
            self._asked.turn(is_next)
            self._given.turn(is_next)
            self._began_ns = self._began_ns + WINDOW_NS if is_next else now_ns
        if model.max_batch > rows:
            cost_ns = model.typical_ns(model.max_batch) * rows // model.max_batch
        else:
            cost_ns = model.typical_ns(rows)
        self._asked.now[model] = self._asked.now.get(model, 0) + cost_ns
        return cost_ns

    def taken(self, model: Model, cost_ns: int) -> None:
        """Counts a request that was taken in."""
        self._given.now[model] = self._given.now.get(model, 0) + cost_ns

    def active(self, models: Iterable[Model], now_ns: int) -> int:
        """How many models had an arrival within the last second, at least 1."""
        since_ns = now_ns - WINDOW_NS
        return sum([model.arrival_ns >= since_ns for model in models]) or 1

    def room_ns(self, model: Model, backlog: Dict[Model, int], left_ns: int, now_ns: int) -> int:
        """What a request of `model` must leave free for other active models that get less than their share.

        Of the `left_ns` until its deadline it is what those are likely to ask for in that time: so many typical runs as
        come on average, one more, and twice their standard deviation, less what waits already; at most half of the
        time, but in any case a run of each that waits without a deadline and is overdue. Nothing, unless the lanes are
        oversubscribed and this model gets more than its share, or its own backlog is over its share of that time and
        the room is slight beside it. `backlog` is the time that all with a deadline that waits will take, the request
        included.
        """
        since_ns = now_ns - WINDOW_NS
        others = [each for each in backlog if each is not model and each.arrival_ns >= since_ns]
        if not others:
            return 0
        elapsed = (now_ns - self._began_ns) / WINDOW_NS
        weight = max(0.0, 1 - elapsed)
        scale = 1.0 if self._asked.before else 1 / min(1.0, max(_LEAST, elapsed))
        capacity_ns = self._lanes * WINDOW_NS
        share_ns = capacity_ns / (len(others) + 1)
        asked = {each: self._asked.of(each, weight) * scale for each in (model, *others)}
        is_greedy = sum(asked.values()) > capacity_ns and self._given.of(model, weight) * scale > share_ns
        if not is_greedy and backlog[model] * (len(others) + 1) <= self._lanes * left_ns:
            return 0
        rooms: List[int] = [
            _likely_ns(each, min(asked[each], share_ns), left_ns, backlog[each])
            for each in others
            if self._given.of(each, weight) * scale <= share_ns
        ]
        room_ns = sum(rooms)
        if not is_greedy:
            return room_ns if room_ns * _SLIGHT <= left_ns else 0
        return max(min(room_ns, left_ns // 2), sum([_overdue_ns(each, now_ns) for each in others]))

    def forget(self, model: Model) -> None:
        """Doesn't count what a model asked for, as it will never be served: its stream was refused."""
        model.arrival_ns = -NEVER
        self._asked.now.pop(model, None)

    def drop(self, model: Model) -> None:
        """Forgets a model that isn't served any more."""
        for rates in (self._asked, self._given):
            rates.now.pop(model, None)
            rates.before.pop(model, None)


def _likely_ns(model: Model, asked_ns: float, left_ns: int, backlog_ns: int) -> int:
    """What a model is likely to ask for in a time, beyond what waits with a deadline."""
    run_ns = model.typical_ns(1)
    if not run_ns:
        return 0
    runs = asked_ns * left_ns / WINDOW_NS / run_ns
    return max(0, int(run_ns * (runs + 1 + 2 * sqrt(runs))) - backlog_ns)


def _overdue_ns(model: Model, now_ns: int) -> int:
    """The run of the first that waits without a deadline, if its virtual one has passed."""
    heads = [turns.first for turns in model.easy.values() if turns.first is not None]
    return max([head.cost_ns for head in heads if head.key[1] < now_ns], default=0)
