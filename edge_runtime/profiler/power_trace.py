"""Total power over time as arrays, with the steps that may be integrated over and those that may not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.device.telemetry.sample import Stamped, TotalPower

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_GAP_OF_MEDIAN_STEP = 2.5  # a printed stamp of whole seconds makes a step of two where nothing was lost
_GAP_OF_INTERVAL = 2.0


@dataclass(frozen=True)
class PowerTrace:
    """Readings of one total, in order of time; at least one.

    `at_s` are seconds since `origin_ns`. `is_covered` has one entry for each step from a reading to the next: False is
    a gap, over which nothing is known. `step_s` is the median step of the samples, with or without a total in them.
    """

    origin_ns: int
    at_s: Floats
    power_mw: Floats
    is_covered: Bools
    step_s: float
    how: str
    rails: Tuple[str, ...]

    @property
    def steps_s(self) -> Floats:
        """The length of each step."""
        return np.diff(self.at_s)

    @property
    def gaps(self) -> int:
        """How many steps are gaps."""
        return int(np.count_nonzero(~self.is_covered))

    @property
    def span_s(self) -> float:
        """From the first reading to the last."""
        return float(self.at_s[-1] - self.at_s[0])

    @property
    def covered_s(self) -> float:
        """The span without its gaps."""
        return float(self.steps_s[self.is_covered].sum())

    @property
    def total(self) -> str:
        """What was read, in words."""
        return f"{self.how} ({', '.join(self.rails)})"

    def energies_mj(self) -> Floats:
        """The energy of each step by the trapezoid, 0 in a gap."""
        means_mw: Floats = (self.power_mw[:-1] + self.power_mw[1:]) / 2
        return np.where(self.is_covered, means_mw * self.steps_s, 0.0)

    def mean_mw(self) -> float | None:
        """Energy by the trapezoid over the time it covers; None where no two readings are joined."""
        return float(self.energies_mj().sum()) / self.covered_s if self.covered_s > 0 else None

    def between(self, start_s: float, end_s: float) -> PowerTrace | None:
        """The readings from `start_s` to `end_s`, both taken in; None where there is none."""
        first, end = np.searchsorted(self.at_s, start_s, "left"), np.searchsorted(self.at_s, end_s, "right")
        return self.part(int(first), int(end))

    def part(self, first: int, end: int) -> PowerTrace | None:
        """The readings `[first, end)`; None where there is none."""
        if end <= first:
            return None
        return replace(
            self,
            at_s=self.at_s[first:end],
            power_mw=self.power_mw[first:end],
            is_covered=self.is_covered[first : end - 1],
        )


def power_trace(samples: Sequence[Stamped], interval_s: float | None = None) -> PowerTrace | None:
    """The total that most of the samples carry; None if none has one.

    A gap is a step longer than 2.5 median steps and two intervals (where `interval_s` is known), and one across a
    sample that has no total or one of another kind or other rails.
    """
    in_order = sorted(samples, key=lambda stamped: stamped.at_ns)
    totals = [_finite(stamped.sample.total_power) for stamped in in_order]
    kinds = Counter((total.how, total.rails) for total in totals if total is not None)
    if not kinds:
        return None
    how, rails = kinds.most_common(1)[0][0]
    origin_ns = in_order[0].at_ns
    at_s = np.array([stamped.at_ns - origin_ns for stamped in in_order], np.int64) / 1e9
    power_mw = np.array(
        [math.nan if total is None or (total.how, total.rails) != (how, rails) else total.cur_mw for total in totals]
    )
    is_new = np.concatenate([[True], np.diff(at_s) > 0])  # of two samples at one moment the first is taken
    at_s, power_mw = at_s[is_new], power_mw[is_new]
    step_s = float(np.median(np.diff(at_s))) if len(at_s) > 1 else 0.0
    known = np.flatnonzero(~np.isnan(power_mw))
    if not len(known):
        return None
    longest_s = max(_GAP_OF_MEDIAN_STEP * step_s, _GAP_OF_INTERVAL * (interval_s or 0.0))
    is_covered = (np.diff(known) == 1) & (np.diff(at_s[known]) <= longest_s)
    return PowerTrace(origin_ns, at_s[known], power_mw[known], is_covered, step_s, how, rails)


def _finite(total: TotalPower | None) -> TotalPower | None:
    return total if total is not None and math.isfinite(total.cur_mw) else None
