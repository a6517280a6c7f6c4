"""The threshold of |x| that keeps most information in 128 levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.calibration.histogram import Histogram

LEVELS = 128
# Divergences (in nats) closer than this are equal: rounding must not choose between them.
_TIE = 1e-9
_CANDIDATES_AT_ONCE = 256

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def entropy_threshold(histogram: Histogram, max_clipped: float = 1e-3) -> float:
    """The |x| at which to saturate, at most the histogram's amax; 0.0 if nothing but zeros was seen.

    Each number of bins from 128 to those up to amax (2049 to 4096) is a candidate. The bins below it, with all counts
    above added to the last, are compared with the same bins merged to 128 levels and spread again over those that
    weren't empty (S. Migacz, "8-bit inference with TensorRT", GTC 2017, session S7310). The least Kullback-Leibler
    divergence wins, the largest of equals. Beyond that source:
      - the first bin counts as its neighbour, or tensors with many zeros would be clipped to almost nothing;
      - at most `max_clipped` of the values other than zero may lie above a candidate: 0 keeps the whole range;
      - a candidate whose last bin is empty while values lie above it diverges without bound, and is left out.
    """
    used = histogram.bin_index(histogram.amax) + 1
    if histogram.amax == 0.0 or used <= LEVELS:
        return histogram.amax
    bins = histogram.counts[:used].astype(np.float64)
    above = bins.sum() - np.concatenate(([0.0], np.cumsum(bins)))  # above[i]: counts from bin i on, exact
    bins[0] = bins[1]
    candidates = np.arange(LEVELS, used + 1)
    within = above[candidates] <= max_clipped * (histogram.total - histogram.zeros)
    finite = (bins[candidates - 1] > 0) | (above[candidates] == 0)
    candidates = candidates[within & finite]
    blocks = [candidates[i : i + _CANDIDATES_AT_ONCE] for i in range(0, candidates.size, _CANDIDATES_AT_ONCE)]
    divergences = np.concatenate([_divergences(bins, above[block], block) for block in blocks])
    best = candidates[np.flatnonzero(divergences <= divergences.min() + _TIE)[-1]]
    return min((float(best) + 0.5) * histogram.bin_width, histogram.amax)


def _divergences(bins: _Floats, above: _Floats, candidates: _Ints) -> _Floats:
    """KL(P || Q) for each candidate number of bins, from sums over P and over levels of Q."""
    total = bins.sum()
    counts, filled, entropy = (_sums_below(values) for values in (bins, bins > 0, _xlogx(bins)))
    edges = -(-np.arange(LEVELS + 1) * candidates[:, None] // LEVELS)
    mass = np.diff(counts[edges])
    log_mean = np.log(np.maximum(mass, 1.0) / np.maximum(np.diff(filled[edges]), 1.0))
    last = bins[candidates - 1] + above
    p_log_p = entropy[candidates - 1] + _xlogx(last)
    p_log_q = (mass * log_mean).sum(axis=1) + above * log_mean[:, -1]
    divergences: _Floats = (p_log_p - p_log_q) / total - np.log(total) + np.log(counts[candidates])
    return divergences


def _sums_below(values: npt.NDArray[np.generic]) -> _Floats:
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def _xlogx(values: _Floats) -> _Floats:
    products: _Floats = values * np.log(np.maximum(values, 1.0))
    return products
