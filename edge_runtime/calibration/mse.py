"""The threshold of |x| with the least squared error of symmetric int8."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.calibration.histogram import BINS, Histogram

_LEVELS = 127
_COARSE = 8  # candidates an octave
_FINE = 32  # candidates from one of these to the next

_Floats = npt.NDArray[np.float64]


def mse_threshold(histogram: Histogram) -> float:
    """The |x| at which to saturate, at most the histogram's amax; 0.0 if nothing but zeros was seen.

    The best of 8 candidates an octave, from amax down to about a bin's width, then the best of 32 on each side of it.
    The largest of equals wins.
    """
    if histogram.amax == 0.0:
        return 0.0
    amax = histogram.amax / histogram.bin_width
    octaves = np.arange(_COARSE * int(np.log2(BINS)) + 1) / _COARSE
    best = octaves[np.argmin(expected_errors(histogram, amax * 2.0**-octaves))]
    near = np.maximum(best + np.arange(-_FINE, _FINE + 1) / (_FINE * _COARSE), 0.0)
    best = near[np.argmin(expected_errors(histogram, amax * 2.0**-near))]
    return float(histogram.amax * 2.0**-best)


def expected_errors(histogram: Histogram, thresholds: _Floats) -> _Floats:
    """The sum of squared errors of all values in int8, for each threshold; all in units of the bin width.

    Values are spread evenly inside a bin, and zeros have no error. With a step s = threshold / 127, N values whose sum
    is S1 and whose squares' is S2, and G(x) the integral of their number below x (a parabola in every bin), the sum of
    (x - nearest level)^2 is S2 + 127 s (127 s N - 2 S1) - 2 s (G(s/2) + G(3 s/2) + ... + G(253 s/2)).
    """
    counts = histogram.counts.astype(np.float64)
    counts[0] -= histogram.zeros
    below = np.concatenate(([0.0], np.cumsum(counts)))
    areas = np.concatenate(([0.0], np.cumsum(below[:-1] + counts / 2)))
    steps = thresholds / _LEVELS
    edges = steps[:, None] * (np.arange(_LEVELS) + 0.5)
    bins = edges.astype(np.int32)
    inside = edges - bins
    integrals = areas[bins] + inside * (below[bins] + counts[bins] * inside / 2)
    middles = np.arange(BINS) + 0.5
    top = _LEVELS * steps
    clipped = top * (top * below[-1] - 2 * (counts @ middles))
    errors: _Floats = counts @ (middles**2 + 1 / 12) + clipped - 2 * steps * integrals.sum(axis=1)
    return np.maximum(errors, 0.0)
