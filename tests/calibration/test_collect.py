"""One pass from samples to histograms, and from those to scales."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.calibrator import Entropy, Max
from edge_runtime.calibration.collect import collect, table_from_histograms
from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.sample import Sample
from edge_runtime.calibration.samples import batched
from edge_runtime.errors import CalibrationError


def double(feeds):
    return {"x": feeds["x"], "y": 2 * feeds["x"]}


def samples_of(values: np.ndarray) -> list[Sample]:
    return [Sample({"x": value.reshape(1, -1)}) for value in values]


VALUES = np.random.default_rng(0).normal(size=(24, 50)).astype(np.float32)


def test_every_tensor_gets_the_histogram_of_all_its_values():
    histograms = collect(double, samples_of(VALUES), ["y", "x"])
    assert {name: histogram.total for name, histogram in histograms.items()} == {"x": 1200, "y": 1200}
    assert histograms["y"].amax == 2 * histograms["x"].amax == 2 * float(np.abs(VALUES).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 24), st.permutations(range(24)))
def test_scales_dont_depend_on_batch_size_or_order(size, order):
    expected = table_from_histograms(collect(double, samples_of(VALUES), ["x", "y"]), Entropy())
    run = batched(samples_of(VALUES[order]), size)
    assert table_from_histograms(collect(double, run, ["x", "y"]), Entropy()) == expected


@pytest.mark.parametrize(
    ("size", "is_overlapped", "most_alive"),
    [(1000, True, 2), (9 << 20, True, 1), (1000, False, 1)],
    ids=["small", "large", "not overlapped"],
)
def test_only_small_activations_are_counted_while_the_next_sample_runs(size, is_overlapped, most_alive):
    alive: list[weakref.ref] = []

    def run(feeds):
        gc.collect()
        assert sum(reference() is not None for reference in alive) <= most_alive
        activation = np.ones(size, np.float32)
        alive.append(weakref.ref(activation))
        return {"y": activation}

    histograms = collect(run, samples_of(VALUES[:4]), ["y"], is_overlapped=is_overlapped)
    assert histograms["y"].total == 4 * size


def test_memory_that_the_next_run_overwrites_is_counted_before_it():
    memory = np.zeros(100_000, np.float32)

    def run(feeds):
        memory[:] += 1
        return {"y": memory}

    histogram = collect(run, samples_of(VALUES[:3]), ["y"])["y"]
    assert [histogram.counts[histogram.bin_index(value)] for value in (1.0, 2.0, 3.0)] == [100_000] * 3


def test_a_tensor_that_some_samples_lack_is_counted_where_it_is():
    calls = iter(range(4))
    histograms = collect(lambda f: double(f) if next(calls) % 2 else {"x": f["x"]}, samples_of(VALUES[:4]), ["x", "y"])
    assert (histograms["x"].total, histograms["y"].total) == (200, 100)


@pytest.mark.parametrize("activation", [None, np.zeros((0, 4), np.float32)], ids=["absent", "empty"])
def test_a_tensor_without_any_value_is_an_error(activation):
    activations = {} if activation is None else {"y": activation}
    with pytest.raises(CalibrationError, match=r"tensor 'y' \(1 of 1\) had no value in any of 24 samples"):
        collect(lambda _: activations, samples_of(VALUES), ["y"])


def test_no_sample_is_an_error():
    with pytest.raises(CalibrationError, match="no calibration sample"):
        collect(double, [], ["x"])


def test_a_bad_activation_names_tensor_and_sample():
    values = VALUES.copy()
    values[5, 3] = np.inf
    with pytest.raises(CalibrationError, match="tensor 'x' is infinite at sample 5"):
        collect(double, samples_of(values), ["x"])


def test_an_optional_tensor_is_left_out_where_another_is_an_error():
    values = VALUES.copy()
    values[5, 3] = np.nan
    histograms = collect(lambda f: {**f, "y": np.ones(3)}, samples_of(values), ["x", "y", "absent"], {"x", "absent"})
    assert list(histograms) == ["y"]


def test_a_failure_of_the_model_is_the_callers():
    def run(feeds):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        collect(run, samples_of(VALUES), ["x"])


def histogram_of(*values: float, dtype=np.float32) -> Histogram:
    histogram = Histogram("t")
    histogram.update(np.array(values, dtype), 0)
    return histogram


def test_a_scale_is_the_threshold_over_127():
    histogram = collect(double, samples_of(VALUES), ["x"])["x"]
    scale = table_from_histograms({"x": histogram}, Max()).scales["x"]
    assert scale == float(np.float32(histogram.amax / 127))


@pytest.mark.parametrize(
    ("histogram", "scale"),
    [(histogram_of(0, 0), 1 / 127), (histogram_of(1e-45), 2.0**-126), (histogram_of(3e38), 3e38 / 127)],
    ids=["zeros", "too small", "large"],
)
def test_scales_are_never_zero_and_finite(histogram, scale):
    table = table_from_histograms({"t": histogram}, Entropy())
    assert table.scales["t"] == pytest.approx(scale, rel=1e-6)
    assert np.isfinite(np.float32(1) / np.float32(table.scales["t"]))


def test_activations_beyond_float32_have_no_scale():
    with pytest.raises(CalibrationError, match="tensor 't' has scale"):
        table_from_histograms({"t": histogram_of(1e300, dtype=np.float64)}, Entropy())


@pytest.mark.parametrize("size", [1, 4, 24])
def test_the_sample_that_is_no_number_is_named_whatever_the_batch(size):
    values = VALUES.copy()
    values[13, 7] = np.nan
    with pytest.raises(CalibrationError, match=r"tensor 'y' is NaN at sample 13"):
        collect(lambda feeds: {"y": feeds["x"]}, batched(samples_of(values), size), ["y"])
