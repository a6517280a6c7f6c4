"""Standard errors of time averages whose values depend on those before them: the method of batch means.

Long batches of a steady series are nearly independent of each other, whatever single values are; 10 to 30 of them
are enough (B. Schmeiser, Batch size effects in the analysis of simulation output, Operations Research 30 (1982),
556-568). Where fewer, longer batches give a larger error, the values depend on each other for longer than the short
batches last: the larger error is taken.
"""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_BATCHES = (20, 10)
_FEWEST_BATCHES = 5
_SHORTEST_BATCH = 3


def ratio(above: Floats, below: Floats) -> Tuple[float, float]:
    """The sum of `above` over the sum of `below`, and the standard error of that.

    With batches (a_i, b_i), i = 1..B: R = sum a / sum b, and
    SE(R)^2 = B / (B - 1) * sum (a_i - R b_i)^2 / (sum b)^2,
    the ratio estimator's (W. G. Cochran, Sampling Techniques, 3rd ed. 1977, section 6.3), so that what power and rate
    have in common counts once.
    """
    value = float(above.sum() / below.sum())
    return value, max(_error(above, below, value, count) for count in _batch_counts(len(above)))


def drift(above: Floats, below: Floats) -> Tuple[float, float, float]:
    """The ratio in the first half, that in the second, and the standard error of their difference.

    The noise is taken from differences of neighbouring batches (J. von Neumann et al., The mean square successive
    difference, Annals of Mathematical Statistics 12 (1941), 153-162), which a slow drift hardly touches.
    """
    half = len(above) // 2
    first, second = (float(above[part].sum() / below[part].sum()) for part in (slice(half), slice(half, None)))
    batches = _sums(above, _batch_counts(len(above))[0]) / _sums(below, _batch_counts(len(below))[0])
    variance = float(np.mean(np.diff(batches) ** 2)) / 2
    return first, second, math.sqrt(4 * variance / len(batches))


def _batch_counts(n: int) -> Tuple[int, ...]:
    return tuple(max(min(count, n // _SHORTEST_BATCH), min(n, _FEWEST_BATCHES)) for count in _BATCHES)


def _error(above: Floats, below: Floats, value: float, count: int) -> float:
    if count < 2:
        return math.inf
    residuals = _sums(above, count) - value * _sums(below, count)
    return math.sqrt(count / (count - 1) * float(residuals @ residuals)) / float(below.sum())


def _sums(values: Floats, count: int) -> Floats:
    """Sums over `count` batches of nearly equal length."""
    starts = np.arange(count) * len(values) // count
    return np.add.reduceat(values, starts)
