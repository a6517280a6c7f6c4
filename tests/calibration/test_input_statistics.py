"""Streamed statistics against NumPy's over all values at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.input_statistics import InputStatistics, RunningStatistics

RNG = np.random.default_rng(0)


def statistics_of(array: np.ndarray, cuts: tuple = (), calibration: InputStatistics | None = None) -> InputStatistics:
    running = RunningStatistics(array.dtype, calibration)
    for part in np.split(array, cuts):
        running.update(part, len(part))
    return running.result()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=5), st.sampled_from(["f2", "f4", "f8", "u1", "i4"]), st.floats(-1e4, 1e4))
def test_statistics_are_those_of_all_values_however_they_are_cut(cuts, dtype, offset):
    array = (np.random.default_rng(1).normal(size=(30, 3, 9)) * 20 + (offset if dtype == "f8" else 0)).astype(dtype)
    found = statistics_of(array, tuple(sorted(cuts)))
    values = array.astype(np.float64)
    assert (found.rows, found.values_per_row, found.low, found.high) == (30, 27, values.min(), values.max())
    assert (found.mean, found.std) == (pytest.approx(values.mean(), abs=1e-9), pytest.approx(values.std()))
    assert found.low_share == np.mean(array == array.min())
    assert found.high_share == np.mean(array == array.max())


def test_channels_have_figures_of_their_own():
    array = (RNG.normal(size=(20, 3, 5, 7)) * [[[1]], [[2]], [[3]]] + [[[4]], [[5]], [[6]]]).astype(np.float32)
    found = statistics_of(array, (3, 4, 11))
    assert found.channel_mean == pytest.approx(array.mean(axis=(0, 2, 3)), rel=1e-5)
    assert found.channel_std == pytest.approx(array.std(axis=(0, 2, 3)), rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 17, 5), (4, 3), (4,)])
def test_what_has_no_channels_has_no_figures_of_them(shape):
    assert statistics_of(np.ones(shape, np.float32)).channel_mean == ()
    assert statistics_of(np.ones((4, 3, 5), np.int64)).channel_mean == ()


@pytest.mark.parametrize("rows", [None, 4])
def test_a_fixed_batch_is_one_row_and_keeps_its_channels(rows):
    running = RunningStatistics(np.dtype(np.float32))
    running.update(RNG.normal(size=(4, 3, 5, 5)).astype(np.float32), rows)
    found = running.result()
    assert (found.rows, len(found.channel_mean)) == (rows or 1, 3)


def test_rows_of_one_value_are_constant_but_not_single_values():
    assert statistics_of(np.array([[1, 1], [2, 2], [1, 2]], np.float32)).constant_rows == 2
    assert statistics_of(np.ones((5, 1), np.float32)).constant_rows == 0


def test_zeros_at_the_end_dont_change_what_the_content_is_like():
    content = RNG.normal(3, 1, (6, 20)).astype(np.float32)
    padded = np.pad(content, ((0, 0), (0, 300)))
    plain, wide = (statistics_of(array).row for array in (content, padded))
    assert wide.content() == pytest.approx(plain.content())
    assert wide.correlation == pytest.approx(plain.correlation)


@pytest.mark.parametrize(("shape", "axis"), [((5, 3, 8, 40), -1), ((5, 40, 40, 3), 1), ((5, 400), 1)])
def test_neighbours_along_the_longest_axis_are_alike_in_smooth_data_only(shape, axis):
    noise = RNG.normal(size=shape)
    smooth = np.cumsum(noise, axis=axis)
    assert np.abs(statistics_of(noise).row.correlation).max() < 0.2
    assert statistics_of(smooth).row.correlation.min() > 0.5


def test_held_out_values_are_counted_outside_the_calibration_range():
    calibration = statistics_of(np.array([[0, 1], [2, 3]], np.float32))
    found = statistics_of(np.array([[-1, 0], [3, 3.5]], np.float32), (), calibration)
    assert (calibration.outside, found.outside) == (None, 0.5)


def test_integers_that_never_occurred_are_counted():
    calibration = statistics_of(np.array([[5, 7], [5, 900]]), (1,))
    assert statistics_of(np.array([[5, 6], [7, 7000]]), (1,), calibration).unseen == 0.5
    assert statistics_of(np.array([[-5, 900]]), (), calibration).unseen == 0.5


@pytest.mark.parametrize("values", [[-1, 5], [1 << 40, 5], [(1 << 64) - 1, 5]])
def test_integers_that_are_no_ids_are_left_alone(values):
    dtype = np.uint64 if max(values) >> 63 else np.int64
    calibration = statistics_of(np.array([values], dtype))
    assert calibration.ids is None
    assert statistics_of(np.array([[5, 6]], dtype), (), calibration).unseen is None


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, np.float64, np.uint8, np.int8, np.uint64])
def test_every_type_of_tensor_has_statistics(dtype):
    found = statistics_of(np.array([[0, 1], [1, 1]], dtype))
    assert (found.low, found.high, found.mean) == (0, 1, 0.75)


def test_numbers_whose_squares_overflow_dont_stop_it():
    assert statistics_of(np.array([[1e300, -1e300]])).high == 1e300


def test_memory_is_bounded_by_rows_and_parts():
    batch = RNG.normal(size=(2_000, 3, 32, 32)).astype(np.float32)
    running = RunningStatistics(batch.dtype)
    tracemalloc.start()
    try:
        running.update(batch, len(batch))
        running.result()
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
