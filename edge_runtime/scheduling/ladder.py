"""Which rung of a model's ladder answers: down under heat, throttling, power or missed deadlines, and back when calm.

A pure function of time and figures: it has no clock, reads no board and switches nothing itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterator, NamedTuple, Sequence, Set, Tuple

from edge_runtime.plan.ladder import LadderTable

THROTTLE, HEADROOM, POWER, QUEUE, MISSES, CALM = "throttle", "headroom", "power", "queue", "misses", "calm"
REASONS = (THROTTLE, HEADROOM, POWER, QUEUE, MISSES, CALM)


@dataclass(frozen=True)
class Pressure:
    """What a ladder goes by; None, or a number that is none, is unknown.

    `queue_delay_ms` and `miss_share` are of the model's requests in the last `window_s`.
    """

    is_throttled: bool | None = None
    headroom_c: float | None = None
    power_w: float | None = None
    queue_delay_ms: float | None = None
    miss_share: float | None = None


class Step(NamedTuple):
    """From one rung to the next; `reason` is one of `REASONS`, `text` says why with figures."""

    source: int
    target: int
    reason: str
    text: str


class _Sign(NamedTuple):
    """One figure as a trigger sees it; neither flag is set between the two thresholds."""

    reason: str
    is_known: bool
    is_pressing: bool
    is_calm: bool
    text: str


class Ladder:
    """Rung 0 is the model itself, `count - 1` the last of its ladder; one step at a time.

    It steps down when any trigger presses, `dwell_s` after the last switch at the earliest. It returns by one rung once
    all triggers were calm, without a break and without a switch, for the time that a return waits: `return_dwell_s` at
    first. A return that is undone (a step down less than `most_return_dwell_s` after it) doubles that time, up to
    `most_return_dwell_s`; one that isn't brings it back to the first.

    An unknown figure never makes it step down. It doesn't let it return either, however long it stays unknown, if it
    was ever known: a sensor that dies of the heat isn't calm. A figure that was never known doesn't count.

    Whatever the figures do, switches are bounded: `most_switches`. Let R be `return_dwell_s` and M
    `most_return_dwell_s`, and a turn a step down that follows a return. Between two turns lies a return, which waits R
    at least. A turn less than M after its return doubles the wait; one that isn't brings it back to R, but lies over M
    behind the turn before it, so in a span W <= M only the first can be such. So the i-th gap between turns in it is
    at least min(2^(i-1) R, M), and there are at most 1 + log2(W/R + 1) turns. Before, between and behind turns it goes
    down by at most `count - 1` rungs and then up by as many. Two rungs with the defaults, 30 s and half an hour, so
    switch at most 14 times in any half hour.
    """

    def __init__(self, table: LadderTable, count: int) -> None:
        self.rung = 0
        self.return_dwell_s = table.return_dwell_s
        self._table = table
        self._last = count - 1
        self._known: Set[str] = set()
        self._switched_ns: int | None = None
        self._calm_ns: int | None = None
        self._returned_ns: int | None = None

    def update(self, pressure: Pressure, now_ns: int) -> Step | None:
        """Takes the figures of now in, by a clock that doesn't go back; the step that was made, if one was."""
        signs = list(_signs(self._table, pressure))
        self._known.update(sign.reason for sign in signs if sign.is_known)
        if self._switched_ns is None:
            self._switched_ns = now_ns
        pressing = [sign for sign in signs if sign.is_pressing]
        if not all(sign.is_calm for sign in signs if sign.reason in self._known):
            self._calm_ns = None
        elif self._calm_ns is None:
            self._calm_ns = now_ns
        if pressing:
            return self._down(pressing, now_ns)
        return self._back(signs, now_ns)

    def _down(self, pressing: Sequence[_Sign], now_ns: int) -> Step | None:
        if self.rung == self._last or not _is_over(self._switched_ns, self._table.dwell_s, now_ns):
            return None
        if self._returned_ns is not None:
            is_undone = not _is_over(self._returned_ns, self._table.most_return_dwell_s, now_ns)
            longest_s = min(2 * self.return_dwell_s, self._table.most_return_dwell_s)
            self.return_dwell_s = longest_s if is_undone else self._table.return_dwell_s
            self._returned_ns = None
        return self._step(1, pressing[0].reason, "; ".join(sign.text for sign in pressing), now_ns)

    def _back(self, signs: Sequence[_Sign], now_ns: int) -> Step | None:
        calm_ns = None if self._calm_ns is None else max(self._calm_ns, self._switched_ns or 0)
        if self.rung == 0 or calm_ns is None or not _is_over(calm_ns, self.return_dwell_s, now_ns):
            return None
        self._returned_ns = now_ns
        figures = "; ".join(sign.text for sign in signs if sign.is_known)
        return self._step(
            -1, CALM, f"calm for {(now_ns - calm_ns) / 1e9:.0f} s: {figures or 'no figure is known'}", now_ns
        )

    def _step(self, by: int, reason: str, text: str, now_ns: int) -> Step:
        step = Step(self.rung, self.rung + by, reason, text)
        self.rung += by
        self._switched_ns = now_ns
        return step


def most_switches(table: LadderTable, count: int, span_s: float) -> int:
    """How often a ladder of so many rungs may switch in any span of that length: `Ladder` proves it."""
    first_s, longest_s = table.return_dwell_s, table.most_return_dwell_s
    spans = max(1, math.ceil(span_s / longest_s))
    turns = spans * (1 + math.floor(math.log2(min(span_s, longest_s) / first_s + 1)))
    turns = min(turns, 1 + math.floor(span_s / first_s))
    by_dwell = 1 + math.floor(span_s / min(table.dwell_s, first_s))
    return min(2 * (count - 1) * (turns + 1), by_dwell)


def _is_over(since_ns: int | None, wait_s: float, now_ns: int) -> bool:
    return since_ns is not None and now_ns - since_ns >= wait_s * 1e9


def _signs(table: LadderTable, pressure: Pressure) -> Iterator[_Sign]:
    """The triggers that are set."""
    if table.on_throttle:
        is_throttled = pressure.is_throttled
        text = "throttled" if is_throttled else "not throttled"
        yield _Sign(THROTTLE, is_throttled is not None, is_throttled is True, is_throttled is False, text)
    if table.headroom_c is not None:
        headroom = (pressure.headroom_c, -1, table.headroom_c, table.calm_headroom_c)
        yield _sign(HEADROOM, headroom, "headroom {:.1f} °C, limit {:g}")
    if table.power_budget_w is not None:
        yield _sign(
            POWER, (pressure.power_w, 1, table.power_budget_w, table.calm_power_w), "power {:.1f} W, budget {:g}"
        )
    if table.queue_delay_ms is not None:
        queue = (pressure.queue_delay_ms, 1, table.queue_delay_ms, table.calm_queue_ms)
        yield _sign(QUEUE, queue, "wait {:.1f} ms, limit {:g}")
    if table.miss_share is not None:
        misses = (pressure.miss_share, 1, table.miss_share, table.calm_misses)
        yield _sign(MISSES, misses, "misses {:.3f}, limit {:g}")


def _sign(reason: str, figure: Tuple[float | None, int, float, float], text: str) -> _Sign:
    """`figure` is the value, whether more (1) or less (-1) of it presses, and both thresholds."""
    value, direction, limit, calm = figure
    if value is None or math.isnan(value):
        return _Sign(reason, False, False, False, "")
    is_pressing, is_calm = direction * value > direction * limit, direction * value <= direction * calm
    return _Sign(reason, True, is_pressing, is_calm, text.format(value, limit))
