"""How much worse than the float model, and how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
Losses = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], _Array]
"""The relative losses of candidates' scores against baselines', measured by magnitudes: all three by resample."""


@dataclass(frozen=True)
class Loss:
    """What a candidate loses of the float model's score over `n` held-out rows: 0.01 is 1 % worse, below 0 is better.

    The true loss lies from `low` to `high` with 95 % confidence (None: not known). `value` is infinite if a score
    isn't a finite number. `fewest` rows make an interval that means something; with more, `high` comes nearer to
    `value` by n ** -`rate`.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    fewest: int = 30
    rate: float = 0.5

    def needed(self, limit: float) -> int | None:
        """How many held-out rows would bring `high` down to `limit`, if the loss stayed as it is.

        None if there are enough, or if no number would do because the loss is at the limit or above.
        """
        room = limit - self.value
        if room < 0:
            return None
        rows = self.fewest
        if self.high is not None and self.high > limit:
            excess = self.high - self.value
            if room <= excess * 1e-6:
                return None
            rows = max(rows, math.ceil(round(self.n * (excess / room) ** (1 / self.rate), 6)))
        return rows if rows > self.n else None


def relative_losses(
    baseline: npt.ArrayLike, candidate: npt.ArrayLike, magnitude: npt.ArrayLike, higher_is_better: bool
) -> _Array:
    """How much worse candidates' scores are than baselines', over `magnitude`; elementwise.

    Where the magnitude is 0, infinite for any worse score, else 0; infinite where a score isn't finite.
    """
    scale = np.asarray(magnitude, np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        worse = np.subtract(baseline, candidate, dtype=np.float64) * (1 if higher_is_better else -1)
        losses = np.where(scale == 0, np.where(worse > 0, math.inf, 0.0 * worse), worse / scale)
    finite: _Array = np.where(np.isfinite(losses), losses, math.inf)
    return finite
