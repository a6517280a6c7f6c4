"""Where a run of tegrastats starts in a log, and where lines are missing, told by the averages that it prints.

An average is the mean of all values since the process started, of each rail, cut to a whole number by JetPack 4 and 5
and rounded by 6. It begins again with each process. A log that begins in the middle of a run has averages of values
that aren't there: then only what the next average could be is known.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Dict

from edge_runtime.device.telemetry.sample import Number, Rail, TelemetrySample

_TOLERANCE_MW = 1.0  # between cutting, rounding and what a source's own arithmetic loses


class Place(enum.Enum):
    """Where in a run a sample stands."""

    START = "start"
    FOLLOWS = "follows"
    AFTER_LOSS = "after lost lines"


@dataclass
class _Mean:
    """A rail's values in this run: their sum and number, None if the run began before what is seen of it."""

    average_mw: Number
    sum_mw: Number | None
    n: int | None

    def fits(self, rail: Rail) -> bool:
        """Whether the rail's next average can follow."""
        average = float(rail.avg_mw or 0)
        if self.sum_mw is not None and self.n is not None:
            return abs((self.sum_mw + rail.cur_mw) / (self.n + 1) - average) <= _TOLERANCE_MW
        # The average moves towards the value, at most half of the way: two values at least are in it.
        step, way = average - self.average_mw, rail.cur_mw - self.average_mw
        low, high = min(0.0, way / 2), max(0.0, way / 2)
        return low - _TOLERANCE_MW <= step <= high + _TOLERANCE_MW

    def add(self, rail: Rail) -> None:
        self.average_mw = rail.avg_mw or 0
        if self.sum_mw is not None and self.n is not None:
            self.sum_mw, self.n = self.sum_mw + rail.cur_mw, self.n + 1


class RunWatch:
    """Follows the averages of a log's samples in order."""

    def __init__(self) -> None:
        self._means: Dict[str, _Mean] = {}
        self._is_begun = False

    def place_of(self, sample: TelemetrySample) -> Place:
        """Where the next sample stands. One without averages follows."""
        rails = {name: rail for name, rail in sample.power_mw.items() if rail.avg_mw is not None}
        place = self._place(rails)
        if place is not Place.FOLLOWS:
            self._begin(rails, is_start=_is_first(rails))
        else:
            self._add(rails)
        self._is_begun = True
        return place

    def _place(self, rails: Dict[str, Rail]) -> Place:
        if not self._is_begun:
            return Place.START
        known = [self._means[name].fits(rail) for name, rail in rails.items() if name in self._means]
        if all(known):
            return Place.FOLLOWS
        return Place.START if _is_first(rails) else Place.AFTER_LOSS

    def _begin(self, rails: Dict[str, Rail], is_start: bool) -> None:
        self._means = {}
        for name, rail in rails.items():
            if is_start and rail.avg_mw == rail.cur_mw:
                self._means[name] = _Mean(rail.cur_mw, rail.cur_mw, 1)
            elif not is_start:
                self._means[name] = _Mean(rail.avg_mw or 0, None, None)

    def _add(self, rails: Dict[str, Rail]) -> None:
        if not self._means:
            self._begin(rails, is_start=False)
            return
        for name in [name for name in self._means if name not in rails]:
            del self._means[name]  # of a cut line: the board counted what isn't seen
        for name, mean in self._means.items():
            mean.add(rails[name])


def _is_first(rails: Dict[str, Rail]) -> bool:
    """Whether these are a run's first values. R39 halves the first average of a Thor's VIN."""
    halved = [rail for rail in rails.values() if rail.avg_mw != rail.cur_mw]
    return bool(rails) and len(halved) < max(len(rails), 2) and all(_is_half(rail) for rail in halved)


def _is_half(rail: Rail) -> bool:
    return rail.peak_mw == rail.cur_mw and abs(2 * (rail.avg_mw or 0) - rail.cur_mw) <= _TOLERANCE_MW
