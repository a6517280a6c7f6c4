"""Whether the board throttles, why, and how far it is from that; from samples, one after the other."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

from edge_runtime.device.telemetry.headroom import HeadroomWatch
from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample
from edge_runtime.device.telemetry.throttle_signals import (
    CLOCK,
    Throttle,
    acting,
    counter_cause,
    low_clocks,
    told_causes,
)

__all__ = ["Throttle", "ThrottleSpan", "ThrottleState", "ThrottleWatch", "throttle_spans"]

_LOW_CLOCKS_BORNE = 3  # a governor needs some samples to raise a clock after the load
_LONG_STEP = 2.5  # medians; longer, and nothing is known of the time between


@dataclass(frozen=True)
class ThrottleState:
    """What is known after a sample.

    `active` is empty both where nothing throttles and where nobody can tell: `is_known` tells these apart.
    `headroom_c` is how far the zone nearest to its trip point is below it, and `slope_c_per_s` how fast that zone
    warms up; a temperature is a forecast, never the event. `events` are by how much each over-current counter has
    risen since the watch began, `causes` those that the sample would show.
    """

    active: Tuple[Throttle, ...] = ()
    headroom_c: float | None = None
    headroom_zone: str | None = None
    slope_c_per_s: float | None = None
    events: Mapping[str, int] = field(default_factory=dict)
    causes: Tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether any cause would show."""
        return bool(self.causes)

    @property
    def forecast_s(self) -> float | None:
        """Seconds until the trip point if it goes on like this; None where it doesn't get warmer, or isn't known."""
        if self.headroom_c is None:
            return None
        if self.headroom_c <= 0:
            return 0.0
        if self.slope_c_per_s is None or self.slope_c_per_s <= 0:
            return None
        return self.headroom_c / self.slope_c_per_s


@dataclass(frozen=True)
class ThrottleSpan:
    """From the first sample that shows it to the first that doesn't, on the samples' clock.

    A counter's rise lies between two readings, so its span begins at the one before.
    """

    cause: str
    where: str
    from_ns: int
    to_ns: int
    detail: str


class ThrottleWatch:
    """Takes samples in the order of their time; no thread of its own."""

    def __init__(self) -> None:
        self.state = ThrottleState()
        self._headroom = HeadroomWatch()
        self._counters: Dict[str, int] = {}
        self._events: Dict[str, int] = {}
        self._low_for: Dict[str, int] = {}

    def update(self, stamped: Stamped) -> ThrottleState:
        """The state after one more sample."""
        sample = stamped.sample
        active = (*acting(sample), *self._risen(sample), *self._held_down(sample))
        headroom = self._headroom.update(stamped)
        self.state = ThrottleState(
            active,
            headroom_c=None if headroom is None else headroom.headroom_c,
            headroom_zone=None if headroom is None else headroom.zone,
            slope_c_per_s=None if headroom is None else headroom.slope_c_per_s,
            events=dict(self._events),
            causes=told_causes(sample),
        )
        return self.state

    def _risen(self, sample: TelemetrySample) -> List[Throttle]:
        """Counters that rose since they were last read. A first reading is no event, and neither is a reboot's 0."""
        found = []
        for name, count in sorted(sample.over_current_events.items()):
            cause = counter_cause(name)
            rise = max(count - self._counters.get(name, count), 0)
            self._counters[name] = count
            if cause is not None:
                self._events[name] = self._events.get(name, 0) + rise
                found += [Throttle(cause, name, _events_text(rise))] if rise else []
        return found

    def _held_down(self, sample: TelemetrySample) -> List[Throttle]:
        low = {throttle.where: throttle for throttle in low_clocks(sample)}
        self._low_for = {where: self._low_for.get(where, 0) + 1 for where in low}
        return [throttle for where, throttle in low.items() if self._low_for[where] > _LOW_CLOCKS_BORNE]


@dataclass
class _Run:
    """Samples `first` to `end` that show one thing; the rise of a counter before and in it."""

    throttle: Throttle
    first: int
    end: int
    events_before: int
    events: int


def throttle_spans(samples: Sequence[Stamped]) -> List[ThrottleSpan]:
    """All spans, by their beginning; those of one cause and place are disjoint, and more than one sample apart."""
    in_order = sorted(samples, key=lambda stamped: stamped.at_ns)
    is_long = _long_steps(in_order)
    runs: Dict[Tuple[str, str], List[_Run]] = {}
    for index, throttle, before, events in _seen(in_order):
        first, end = _extent(index, throttle, events > before, is_long)
        same = runs.setdefault((throttle.cause, throttle.where), [])
        if same and first - same[-1].end <= 1 and not any(is_long[same[-1].end : first]):
            same[-1].end, same[-1].events = max(end, same[-1].end), events
        else:
            same.append(_Run(throttle, first, end, before, events))
    spans = [_span(run, in_order) for group in runs.values() for run in group]
    return sorted(spans, key=lambda span: (span.from_ns, span.to_ns, span.cause, span.where))


def _seen(samples: Sequence[Stamped]) -> Iterator[Tuple[int, Throttle, int, int]]:
    """Everything that samples show: which sample, what, and its counter before and after (0 where it is no counter)."""
    watch = ThrottleWatch()
    for index, stamped in enumerate(samples):
        before = watch.state.events
        state = watch.update(stamped)
        for throttle in state.active:
            yield index, throttle, before.get(throttle.where, 0), state.events.get(throttle.where, 0)


def _extent(index: int, throttle: Throttle, is_event: bool, is_long: Sequence[bool]) -> Tuple[int, int]:
    """The samples between which it acted; `is_long[i]` is of the step from sample i to the next."""
    if is_event:
        return (index if index == 0 or is_long[index - 1] else index - 1), index
    first = index
    if throttle.cause == CLOCK:  # it is believed only after some samples, and began with the first of them
        while first > max(index - _LOW_CLOCKS_BORNE, 0) and not is_long[first - 1]:
            first -= 1
    return first, index if index >= len(is_long) or is_long[index] else index + 1


def _long_steps(samples: Sequence[Stamped]) -> List[bool]:
    steps = [later.at_ns - earlier.at_ns for earlier, later in zip(samples, samples[1:])]
    longest = _LONG_STEP * statistics.median(steps) if steps else 0.0
    return [step > longest for step in steps]


def _span(run: _Run, samples: Sequence[Stamped]) -> ThrottleSpan:
    throttle, rise = run.throttle, run.events - run.events_before
    detail = _events_text(rise) if rise else throttle.detail
    return ThrottleSpan(throttle.cause, throttle.where, samples[run.first].at_ns, samples[run.end].at_ns, detail)


def _events_text(count: int) -> str:
    return f"{count} event{'s' if count > 1 else ''}"
