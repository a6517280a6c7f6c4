"""How a figure of one session of measuring compares with that of other sessions, on a machine that drifts.

A session is several repeats, each a loading and a run of calls. Calls of one run aren't independent, so repeats are
resampled whole; and no run can see what changes from hour to hour, so sessions have a spread of their own, which is
assumed at first and learned as a baseline gets more of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, List, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.evaluation.intervals import student_quantile

Array = npt.NDArray[Any]
Statistic = Callable[[Array], float]

FEWEST_REPEATS = 3
_DRAWS = 200
_SPREAD_DEGREES = 8  # how many sessions' worth of evidence the assumed spread counts for


@dataclass(frozen=True)
class Estimate:
    """The logarithm of a figure of one session, its variance by resampling repeats, and how many there were."""

    log_value: float
    variance: float
    repeats: int


@dataclass(frozen=True)
class Change:
    """The logarithm of a ratio: its variance within sessions and between them, and the degrees of freedom of both."""

    log_ratio: float
    within: float
    between: float
    degrees: float
    between_degrees: float

    def interval(self, confidence: float) -> tuple[float, float, float]:
        """The ratio, and the ends of its interval by Student's t."""
        half = student_quantile(confidence, self.degrees) * math.sqrt(self.within + self.between)
        return math.exp(self.log_ratio), math.exp(self.log_ratio - half), math.exp(self.log_ratio + half)

    def over(self, other: Change, power: float) -> Change:
        """This ratio over a power of another one, such as the machine's own; the spread of sessions is this one's."""
        theirs = power**2 * other.within
        degrees = _satterthwaite([(self.within + self.between, self.degrees), (theirs, other.degrees)])
        log_ratio = self.log_ratio - power * other.log_ratio
        return Change(log_ratio, self.within + theirs, self.between, degrees, self.between_degrees)

    def longer(self, limit: float, confidence: float) -> float | None:
        """How many times as long a session must be for the interval to leave out `limit`; None if none would do."""
        distance = abs(self.log_ratio - math.log(limit)) / student_quantile(confidence, self.between_degrees)
        room = distance**2 - self.between
        return None if room <= 0 else self.within / room


def estimate(repeats: Sequence[Array], statistic: Statistic, seed: int = 0) -> Estimate | None:
    """A positive figure of all calls of a session; None where fewer than three repeats have any calls.

    The bootstrap draws whole repeats (A. Davison and D. Hinkley, "Bootstrap Methods and their Application" (1997),
    section 3.8), and its variance is scaled by n / (n - 1), which few clusters need.
    """
    rows = [row for row in repeats if len(row)]
    if len(rows) < FEWEST_REPEATS:
        return None
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(rows), size=(_DRAWS, len(rows)))
    drawn = np.log([statistic(np.concatenate([rows[index] for index in draw])) for draw in picks])
    variance = float(drawn.var(ddof=1)) * len(rows) / (len(rows) - 1)
    return Estimate(math.log(statistic(np.concatenate(rows))), variance, len(rows))


def change(baseline: Sequence[Estimate], now: Estimate, spread: float) -> Change:
    """What became of a figure since the `baseline`'s sessions (at least one).

    `spread` is the assumed standard deviation of the logarithm between sessions; what the baseline's own sessions show
    is weighed in with it, by degrees of freedom.
    """
    values = np.array([one.log_value for one in baseline])
    count, inner = len(values), float(np.mean([one.variance for one in baseline]))
    seen = max(0.0, float(values.var(ddof=1)) - inner) if count > 1 else 0.0
    degrees = _SPREAD_DEGREES + count - 1
    variance = (_SPREAD_DEGREES * spread**2 + (count - 1) * seen) / degrees
    between = variance * (1 + 1 / count)
    parts = [
        (between, degrees),
        (now.variance, now.repeats - 1),
        (inner / count, sum(one.repeats - 1 for one in baseline)),
    ]
    return Change(
        now.log_value - float(values.mean()), now.variance + inner / count, between, _satterthwaite(parts), degrees
    )


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances (F. Satterthwaite, Biometrics Bulletin 2 (1946), 110)."""
    terms: List[float] = [variance**2 / degrees for variance, degrees in parts]
    total = sum(variance for variance, _ in parts)
    return total**2 / sum(terms) if sum(terms) else sum(degrees for _, degrees in parts)
