"""The entropy threshold against a slow reference, and what it does to int8 quantisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.entropy import entropy_threshold
from edge_runtime.calibration.histogram import Histogram

N = 200_000


def distribution(name: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    gauss = rng.standard_normal(N)
    made = {
        "gauss": lambda: gauss,
        "post-ReLU": lambda: np.maximum(gauss, 0),
        "99 % zeros": lambda: np.where(rng.random(N) < 0.99, 0, gauss),
        "silu": lambda: 3 * gauss / (1 + np.exp(-3 * gauss)),
        "one outlier": lambda: np.append(gauss, 60.0),
        "student-t(3)": lambda: rng.standard_t(3, N),
        "relu6": lambda: np.clip(3 * gauss + 3, 0, 6),
        "uniform": lambda: rng.random(N),
        "few values": lambda: rng.choice([0.0, 0.1, 0.7, 5.0], N, p=[0.5, 0.3, 0.1995, 0.0005]),
        "few samples": lambda: gauss[:300],
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


def slow_threshold(histogram: Histogram, max_clipped: float) -> float:
    """The same definition, bin by bin, as in the talk: distributions are built, normalised and compared."""
    true = histogram.counts.tolist()
    while not true[-1]:
        true.pop()
    bins = [true[1], *true[1:]]
    nonzero = histogram.total - histogram.zeros
    best, best_i = math.inf, 0
    for i in range(128, len(bins) + 1):
        outliers = sum(true[i:])
        if outliers > max_clipped * nonzero:
            continue
        p = bins[:i]
        p[-1] += outliers
        levels: list[list[int]] = [[] for _ in range(128)]
        for j in range(i):
            if bins[j]:
                levels[j * 128 // i].append(bins[j])
        means = [sum(level) / len(level) if level else 0.0 for level in levels]
        q = [means[j * 128 // i] if bins[j] else 0.0 for j in range(i)]
        if p[-1] and not q[-1]:
            continue
        p_sum, q_sum = sum(p), sum(q)
        divergence = sum(a / p_sum * math.log((a / p_sum) / (b / q_sum)) for a, b in zip(p, q) if a)
        if divergence <= best + 1e-9:
            best, best_i = min(best, divergence), i
    return min((best_i + 0.5) * histogram.bin_width, histogram.amax)


@pytest.mark.parametrize(
    ("name", "floor_db"),
    [
        ("gauss", 40.0),
        ("post-ReLU", 40.0),
        ("99 % zeros", 41.5),
        ("silu", 37.0),
        ("one outlier", 18.0),
        ("student-t(3)", 17.5),
        ("relu6", 49.5),
        ("uniform", 47.5),
        ("few values", 29.5),
        ("few samples", 41.5),
    ],
)
def test_the_threshold_is_the_slow_references_and_quantises_well(name, floor_db):
    values = distribution(name)
    histogram = histogram_of(values)
    threshold = entropy_threshold(histogram)
    assert threshold == slow_threshold(histogram, 1e-3)
    assert sqnr_db(values, threshold) >= floor_db


@pytest.mark.parametrize("max_clipped", [0.0, 1e-4, 0.05])
def test_the_bound_on_clipping_is_the_slow_references_and_holds(max_clipped):
    values = distribution("student-t(3)")[:5_000]
    histogram = histogram_of(values)
    threshold = entropy_threshold(histogram, max_clipped)
    assert threshold == slow_threshold(histogram, max_clipped)
    assert (np.abs(values) > threshold).sum() <= max_clipped * (values != 0).sum()


def test_nothing_is_clipped_without_allowance():
    values = distribution("one outlier")
    assert entropy_threshold(histogram_of(values), 0.0) == 60.0


def test_an_outlier_doesnt_stretch_the_range():
    assert 4.0 < entropy_threshold(histogram_of(distribution("one outlier"))) < 5.0


def test_zeros_dont_change_the_threshold():
    values = distribution("gauss")
    padded = np.append(values, np.zeros(99 * values.size, np.float32))
    assert entropy_threshold(histogram_of(padded)) == entropy_threshold(histogram_of(values))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_batch_size_and_order_dont_matter(cuts, random):
    values = distribution("student-t(3)")[:20_000]
    parts = np.array_split(values, np.cumsum(cuts) * 400)
    random.shuffle(parts)
    assert entropy_threshold(histogram_of(*parts)) == entropy_threshold(histogram_of(values))


@settings(max_examples=25, deadline=None)
@given(st.integers(-120, 110))
def test_scaling_values_by_a_power_of_two_scales_the_threshold(exponent):
    values = distribution("gauss")[:5_000]
    scaled = np.ldexp(values.astype(np.float64), exponent)
    assert entropy_threshold(histogram_of(scaled)) == math.ldexp(entropy_threshold(histogram_of(values)), exponent)


@pytest.mark.parametrize("value", [1.0, -3.7, 127.0, 1e-30, 3e38, 1e-44])
@pytest.mark.parametrize("with_zeros", [False, True])
def test_a_constant_keeps_its_value(value, with_zeros):
    array = np.full(1000, value, np.float32)
    array[: 500 * with_zeros] = 0
    assert entropy_threshold(histogram_of(array)) == float(np.abs(array).max())


def test_nothing_but_zeros_has_no_threshold():
    assert entropy_threshold(histogram_of(np.zeros(10, np.float32))) == 0.0


def test_asking_twice_gives_the_same_and_leaves_the_histogram_alone():
    histogram = histogram_of(distribution("post-ReLU"))
    before = histogram.counts.copy()
    assert entropy_threshold(histogram) == entropy_threshold(histogram)
    assert np.array_equal(histogram.counts, before)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=60), st.floats(0, 0.9))
def test_any_finite_values_have_a_threshold_up_to_amax(values, max_clipped):
    histogram = histogram_of(np.array(values, np.float32))
    threshold = entropy_threshold(histogram, max_clipped)
    assert (0 < threshold <= histogram.amax) or threshold == histogram.amax == 0
