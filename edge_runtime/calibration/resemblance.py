"""Whether two sets of rows come from the same kind of data, judged row by row so that a few odd ones don't decide."""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.calibration.input_statistics import InputStatistics, RowFigures

_Floats = npt.NDArray[np.float64]

_INTERVALS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


def are_apart(ours: _Floats, theirs: _Floats) -> bool:
    """Whether nine in ten pairs of rows are ordered alike, by 3.2 standard errors: never for three rows or fewer.

    Source: H. Mann and D. Whitney, Annals of Mathematical Statistics 18 (1947), 50.
    """
    n, m = len(ours), len(theirs)
    if not n or not m:
        return False
    ascending = np.sort(theirs)
    below = np.searchsorted(ascending, ours, "left").sum() + np.searchsorted(ascending, ours, "right").sum()
    share = float(below) / (2 * n * m)
    return abs(share - 0.5) >= max(0.4, 3.2 * math.sqrt((n + m + 1) / (12 * n * m)))


def is_scaled_or_shifted(ours: RowFigures, theirs: RowFigures) -> bool:
    """Whether deviations differ threefold, or means by two deviations of `theirs`, and rows show it one by one.

    Four large rows of each are enough for a deviation that differs thirtyfold. Zeros don't count, for they pad.
    """
    (mean, std), (their_mean, their_std) = ours.content(), theirs.content()
    if not (std > 0 and their_std > 0):
        return False
    ours, theirs = ours.used(), theirs.used()
    distances = [np.hypot(row.std, row.mean - their_mean) for row in (ours, theirs)]
    factor = max(std / their_std, their_std / std)
    if factor > 3 and (are_apart(ours.std, theirs.std) or are_apart(*distances)):
        return True
    if factor > 30 and all(len(row.count) > 3 and row.count.min() >= 64 for row in (ours, theirs)):
        lower, upper = sorted(distances, key=np.median)
        return bool(lower.max() < upper.min())
    return abs(mean - their_mean) > 2 * their_std and are_apart(ours.mean, theirs.mean)


def is_in_another_interval(ours: InputStatistics, theirs: InputStatistics) -> bool:
    """Whether the two fill different ones of the intervals that images are normalised to."""
    intervals = _interval(ours), _interval(theirs)
    if None in intervals or intervals[0] == intervals[1]:
        return False
    return are_apart(ours.row.low, theirs.row.low) or are_apart(ours.row.high, theirs.row.high)


def _interval(given: InputStatistics) -> Tuple[float, float] | None:
    if given.rows * given.values_per_row < 1_000:
        return None
    for low, high in _INTERVALS:
        if max(abs(given.low - low), abs(given.high - high)) <= 0.03 * (high - low):
            return low, high
    return None


def usual_correlation(given: InputStatistics) -> float | None:
    """The median row's correlation of neighbouring values, which white noise has near 0; None of too few values."""
    known = np.isfinite(given.row.correlation)
    if given.row.count[known].sum() < 256:
        return None
    return float(np.median(given.row.correlation[known]))
