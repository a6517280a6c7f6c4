from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.profiler import batch_means


def autocorrelated(rng, n, keep):
    noise = rng.normal(size=n)
    for i in range(1, n):
        noise[i] += keep * noise[i - 1]
    return 100 + noise


@pytest.mark.parametrize("keep", [0.0, 0.9])
def test_the_error_covers_the_truth_whether_values_depend_on_each_other_or_not(keep):
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        value, error = batch_means.ratio(autocorrelated(rng, 1000, keep), np.ones(1000))
        inside += abs(value - 100) <= 1.96 * error
    assert 0.9 <= inside / 200 <= 0.995


def test_what_power_and_rate_have_in_common_counts_once():
    calls = np.random.default_rng(2).uniform(1, 3, 400)
    assert batch_means.ratio(12.5 * calls, calls) == (pytest.approx(12.5), pytest.approx(0, abs=1e-12))


def test_one_value_has_no_finite_error():
    assert batch_means.ratio(np.ones(1), np.ones(1)) == (1.0, float("inf"))


def test_a_drift_is_larger_than_its_error():
    rng = np.random.default_rng(3)
    first, second, error = batch_means.drift(100 + np.linspace(0, 10, 300) + rng.normal(size=300), np.ones(300))
    assert (first, second) == (pytest.approx(102.5, abs=0.3), pytest.approx(107.5, abs=0.3))
    assert second - first > 3 * error
