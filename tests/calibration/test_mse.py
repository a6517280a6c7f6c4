"""The expected error of int8 against plain integration, bin by bin and level by level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.histogram import BINS, Histogram
from edge_runtime.calibration.mse import expected_errors, mse_threshold


def slow_error(histogram: Histogram, threshold: float) -> float:
    """Each bin is cut where the nearest level changes, and each piece integrated; in units of the bin width."""
    step = threshold / 127
    edges = [(level + 0.5) * step for level in range(127)]
    error = 0.0
    for index in np.flatnonzero(histogram.counts):
        count = int(histogram.counts[index]) - (0 if index else histogram.zeros)
        cuts = [float(index), *(edge for edge in edges if index < edge < index + 1), float(index + 1)]
        for low, high in zip(cuts, cuts[1:]):
            level = min(round((low + high) / 2 / step), 127) * step
            error += count * ((high - level) ** 3 - (low - level) ** 3) / 3
    return error


def histogram_of(counts: dict[int, int], zeros: int = 0) -> Histogram:
    """Of values in the middle of bins of width 1."""
    histogram = Histogram("t", 12, max(counts) + 0.5, sum(counts.values()) + zeros, zeros)
    for index, count in counts.items():
        histogram.counts[index] = count
    histogram.counts[0] += zeros
    return histogram


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.integers(0, BINS - 2), st.integers(1, 1000), max_size=20),
    st.integers(0, 10**6),
    st.floats(1.0, BINS - 1.0),
)
def test_the_error_is_that_of_plain_integration(counts, zeros, threshold):
    histogram = histogram_of({**counts, BINS - 1: 1}, zeros)
    expected = slow_error(histogram, threshold)
    assert expected_errors(histogram, np.array([threshold]))[0] == pytest.approx(expected, rel=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(st.integers(0, BINS - 1), st.integers(1, 1000), min_size=1, max_size=20))
def test_no_threshold_of_a_fine_grid_is_better(counts):
    histogram = histogram_of({BINS // 2: 1, **counts})
    grid = histogram.amax * np.linspace(1 / 500, 1, 500)
    best = expected_errors(histogram, np.array([mse_threshold(histogram)]))[0]
    energy = float(histogram.counts @ np.arange(BINS) ** 2)
    assert best <= expected_errors(histogram, grid).min() * 1.05 + 1e-4 * energy  # 40 dB below the values


def test_of_equal_thresholds_the_largest_is_taken():
    histogram = Histogram("t")
    histogram.update(np.full(10, 1e-310), 0)  # all in a bin far wider than the value: nothing to choose by
    assert mse_threshold(histogram) == 1e-310
