"""Calibrators against slow plain references, and what must not change a threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.calibrator import (
    ALGORITHMS,
    Entropy,
    Max,
    MeanSquaredError,
    Percentile,
    calibrator_from_name,
)
from edge_runtime.calibration.histogram import Histogram
from edge_runtime.errors import CalibrationError

N = 50_000
DISTRIBUTIONS = ("gauss", "relu", "99 % zeros", "silu", "outlier", "student-t")
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def distribution(name: str) -> np.ndarray:
    rng = np.random.default_rng(11)
    gauss = rng.standard_normal(N)
    made = {
        "gauss": lambda: gauss,
        "relu": lambda: np.maximum(gauss, 0),
        "99 % zeros": lambda: np.where(rng.random(N) < 0.99, 0, gauss),
        "silu": lambda: 3 * gauss / (1 + np.exp(-3 * gauss)),
        "outlier": lambda: np.append(gauss, 60.0),
        "student-t": lambda: rng.standard_t(3, N),
    }
    return made[name]().astype(np.float32)


def histogram_of(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram("t")
    for index, array in enumerate(arrays):
        histogram.update(array, index)
    return histogram


def sqnr_db(values: np.ndarray, threshold: float) -> float:
    x = values.astype(np.float64)
    scale = threshold / 127
    error = x - np.clip(np.round(x / scale), -127, 127) * scale
    return float(10 * np.log10((x**2).sum() / (error**2).sum()))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_max_keeps_the_whole_range(name):
    values = distribution(name)
    assert Max().threshold(histogram_of(values)) == float(np.abs(values).max())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0, 99.9, 99.99, 100.0])
def test_a_percentile_is_that_of_the_values_to_a_bin(name, percentile):
    values = distribution(name)
    histogram = histogram_of(values)
    exact = np.sort(np.abs(values))[math.ceil(values.size * percentile / 100) - 1]
    expected = float(exact) if exact else histogram.amax  # that many zeros tell nothing about the rest
    assert Percentile(percentile).threshold(histogram) == pytest.approx(expected, abs=histogram.bin_width)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_threshold_has_less_squared_error_on_the_values_themselves(name):
    values = distribution(name)
    histogram = histogram_of(values)
    best = sqnr_db(values, MeanSquaredError().threshold(histogram))
    others = [sqnr_db(values, histogram.amax * share) for share in np.linspace(0.02, 1, 300)]
    assert best > max(others) - 0.02


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_quantises_best_of_all_algorithms(name):
    values = distribution(name)
    histogram = histogram_of(values)
    found = {each: sqnr_db(values, calibrator_from_name(each).threshold(histogram)) for each in ALGORITHMS}
    assert found["mse"] > max(found.values()) - 0.02


@every_algorithm
@settings(max_examples=15, deadline=None)
@given(exponent=st.integers(-120, 110))
def test_scaling_values_by_a_power_of_two_scales_the_threshold(algorithm, exponent):
    values = distribution("gauss")[:3_000]
    calibrator = calibrator_from_name(algorithm)
    scaled = calibrator.threshold(histogram_of(np.ldexp(values.astype(np.float64), exponent)))
    assert scaled == math.ldexp(calibrator.threshold(histogram_of(values)), exponent)


@every_algorithm
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 12), min_size=1, max_size=8), random=st.randoms(use_true_random=False))
def test_neither_order_nor_batching_changes_a_threshold(algorithm, cuts, random):
    values = distribution("student-t")[:5_000]
    calibrator = calibrator_from_name(algorithm)
    parts = np.array_split(values, np.cumsum(cuts) * 100)
    random.shuffle(parts)
    assert calibrator.threshold(histogram_of(*parts)) == calibrator.threshold(histogram_of(values))


@pytest.mark.parametrize("calibrator", [Entropy(), MeanSquaredError(), Max()], ids=lambda c: c.name)
def test_zeros_change_nothing(calibrator):
    values = distribution("gauss")
    padded = np.append(values, np.zeros(9 * values.size, np.float32))
    assert calibrator.threshold(histogram_of(padded)) == calibrator.threshold(histogram_of(values))


@every_algorithm
@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_any_finite_values_have_a_threshold_up_to_amax(algorithm, values):
    histogram = histogram_of(np.array(values, np.float32))
    threshold = calibrator_from_name(algorithm).threshold(histogram)
    assert 0 < threshold <= histogram.amax or threshold == histogram.amax == 0


@every_algorithm
@pytest.mark.parametrize("value", [1e-45, 1e-38, 1e-30, 0.1, 1.0, 127.0, 3e38, 1e-310, 1e300])
def test_a_constant_keeps_its_value_to_a_bin(algorithm, value):
    histogram = histogram_of(np.full(100, -value))
    threshold = calibrator_from_name(algorithm).threshold(histogram)
    assert value - histogram.bin_width <= threshold <= value
    assert threshold > 0


@every_algorithm
def test_nothing_but_zeros_has_no_threshold(algorithm):
    assert calibrator_from_name(algorithm).threshold(histogram_of(np.zeros(10, np.float32))) == 0.0


def test_settings_reach_their_algorithm():
    assert calibrator_from_name("entropy", 0.01, 99.0) == Entropy(0.01)
    assert calibrator_from_name("percentile", 0.01, 99.0) == Percentile(99.0)
    assert [calibrator_from_name(name).name for name in ALGORITHMS] == ["entropy", "percentile", "mse", "max"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("entrpy",), "did you mean 'entropy'"),
        (("auto",), "valid: entropy, max, mse, percentile"),
        (("entropy", 1.0), "max_clipped 1.0"),
        (("entropy", math.nan), "max_clipped nan"),
        (("percentile", 0.0, 0.0), "percentile 0.0"),
        (("percentile", 0.0, 100.1), "percentile 100.1"),
    ],
)
def test_an_unknown_algorithm_or_a_setting_out_of_range_is_refused(words, text):
    with pytest.raises(CalibrationError, match=text):
        calibrator_from_name(*words)
