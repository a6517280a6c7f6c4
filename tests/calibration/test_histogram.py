"""Histograms: exact bins, independent of order and cutting, safe at the ends of float32."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_runtime.calibration.histogram import BINS, Histogram
from edge_runtime.errors import CalibrationError

ARRAYS = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def histogram_of(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram("t")
    for index, array in enumerate(arrays):
        histogram.update(array, index)
    return histogram


def state(histogram: Histogram) -> tuple:
    return (histogram.exponent, histogram.amax, histogram.total, histogram.zeros, histogram.counts.tolist())


def exact_counts(values: np.ndarray) -> list[int]:
    """By rational arithmetic, one value at a time."""
    amax = max((Fraction(float(abs(value))) for value in values), default=Fraction(0))
    exponent = math.frexp(float(amax))[1]
    counts = [0] * BINS
    for value in values:
        counts[math.floor(Fraction(float(abs(value))) * BINS / Fraction(2) ** exponent)] += 1
    return counts


@settings(max_examples=80, deadline=None)
@given(ARRAYS)
def test_bins_are_those_of_exact_arithmetic(values):
    histogram = histogram_of(values)
    assert histogram.counts.tolist() == exact_counts(values)
    assert histogram.amax == (float(np.abs(values).max()) if values.size else 0.0)
    assert (histogram.total, histogram.zeros) == (values.size, int((values == 0).sum()))


@settings(max_examples=80, deadline=None)
@given(st.lists(ARRAYS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_result_is_the_same_in_any_order_and_in_one_array(arrays, random):
    whole = state(histogram_of(np.concatenate(arrays)))
    random.shuffle(arrays)
    assert state(histogram_of(*arrays)) == whole


@settings(max_examples=80, deadline=None)
@given(ARRAYS, ARRAYS, ARRAYS)
def test_merging_is_exact_associative_and_commutative(a, b, c):
    x, y, z = histogram_of(a), histogram_of(b), histogram_of(c)
    whole = state(histogram_of(a, b, c))
    assert state(x.merge(y).merge(z)) == state(x.merge(y.merge(z))) == state(z.merge(y).merge(x)) == whole
    assert state(x) == state(histogram_of(a))


@pytest.mark.parametrize(
    "values", [[1e-45], [1e-45, 3e-39], [1e-38, 1e38], [3.4028235e38], [2.0**-126, 1.0], [0.0, -0.0]]
)
def test_the_ends_of_float32_are_counted_exactly(values):
    array = np.array(values, np.float32)
    assert histogram_of(array).counts.tolist() == exact_counts(array)


@pytest.mark.parametrize("amax", [1.0, 2.0, 0.5, 1.5, np.nextafter(np.float32(2), np.float32(0))])
def test_the_range_is_the_smallest_power_of_two_above_amax(amax):
    histogram = histogram_of(np.array([amax], np.float32))
    assert 2.0 ** (histogram.exponent - 1) <= amax < 2.0**histogram.exponent
    assert histogram.counts[histogram.bin_index(histogram.amax)] == 1
    assert histogram.bin_width == 2.0**histogram.exponent / BINS


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8, np.bool_])
def test_other_number_types_count_as_their_values(dtype):
    array = np.array([0, 1, 1, 0], dtype)
    assert state(histogram_of(array)) == state(histogram_of(array.astype(np.float32)))


def test_float64_beyond_float32_is_counted():
    histogram = histogram_of(np.array([1e300, 1e-310]))
    assert (histogram.amax, histogram.total, histogram.zeros) == (1e300, 2, 0)
    assert histogram_of(np.array([1e-310])).counts.sum() == 1


def test_views_and_many_dimensions_are_counted_whole():
    array = np.arange(240, dtype=np.float32).reshape(4, 6, 10)
    assert state(histogram_of(array[:, ::2].T)) == state(histogram_of(array[:, ::2].copy()))


def test_arrays_longer_than_a_chunk_are_counted_whole():
    array = np.random.default_rng(0).normal(size=200_001).astype(np.float32)
    assert histogram_of(array).counts.tolist() == exact_counts_vectorised(array)


def exact_counts_vectorised(values: np.ndarray) -> list[int]:
    exponent = math.frexp(float(np.abs(values).max()))[1]
    bins = np.floor(np.ldexp(np.abs(values.astype(np.float64)), 12 - exponent)).astype(int)
    return np.bincount(bins, minlength=BINS).tolist()


@settings(max_examples=50, deadline=None)
@given(ARRAYS.filter(lambda values: values.any()), st.floats(0.001, 1.2))
def test_the_share_above_is_that_of_the_values_to_a_bin(values, part):
    histogram = histogram_of(values)
    magnitudes, limit = np.abs(values.astype(np.float64)), part * histogram.amax
    low, high = ((magnitudes > limit + shift * histogram.bin_width).mean() for shift in (1, -1))
    assert low - 1e-9 <= histogram.share_above(limit) <= high + 1e-9


def test_nothing_lies_above_amax_as_a_float32_scale_rounds_it():
    histogram = histogram_of(np.full(3, 1.0, np.float32))
    assert histogram.share_above(float(np.float32(1.0 / 127)) * 127) == 0.0


@pytest.mark.parametrize(("value", "text"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_values_that_arent_finite_name_tensor_and_sample(value, text):
    with pytest.raises(CalibrationError, match=f"tensor 'conv_3' is {text} at sample 17"):
        Histogram("conv_3").update(np.array([1.0, value], np.float32), 17)
