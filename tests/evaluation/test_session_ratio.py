from __future__ import annotations

import math

import numpy as np
import pytest

from edge_runtime.evaluation.intervals import student_quantile
from edge_runtime.evaluation.session_ratio import Estimate, change, estimate


@pytest.mark.parametrize(  # of the tables in any textbook
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (8, 2.3060), (30, 2.0423), (1000, 1.9623)]
)
def test_the_quantile_is_students(degrees: float, expected: float) -> None:
    assert student_quantile(0.95, degrees) == pytest.approx(expected, abs=2e-4)


def test_the_spread_between_repeats_counts_not_that_of_calls() -> None:
    calls = np.random.default_rng(0).normal(100, 1, (8, 100))
    alike = estimate(list(calls), np.mean)
    apart = estimate([row + 10 * number for number, row in enumerate(calls)], np.mean)
    assert alike is not None
    assert apart is not None
    assert math.sqrt(alike.variance) < 0.002
    assert math.sqrt(apart.variance) == pytest.approx(np.std(np.arange(8) * 10, ddof=1) / 135 / math.sqrt(8), rel=0.15)


def test_repeats_without_calls_do_not_count_and_two_are_too_few() -> None:
    rows = [np.array([1.0]), np.array([]), np.array([1.0])]
    assert estimate(rows, np.median) is None
    found = estimate([*rows, np.array([1.0])], np.median)
    assert found == Estimate(0.0, 0.0, 3)


def test_the_assumed_spread_widens_an_interval_that_repeats_alone_make_narrow() -> None:
    one = Estimate(0.0, 0.0, 8)
    ratio, low, high = change([one], one, spread=0.01).interval(0.95)
    assert ratio == 1
    assert math.log(high) == pytest.approx(2.306 * 0.01 * math.sqrt(2), rel=1e-3) == -math.log(low)


def test_sessions_that_differ_teach_a_wider_spread() -> None:
    def width(values: list[float]) -> float:
        _, low, high = change([Estimate(value, 0.0, 8) for value in values], Estimate(0, 0, 8), 0.01).interval(0.95)
        return high - low

    assert width([-0.1, 0.1, -0.1, 0.1]) > 4 * width([0, 0, 0, 0])
    assert width([0.0] * 9) < width([0.0])


def test_longer_sessions_help_only_as_far_as_sessions_agree() -> None:
    noisy, quiet = Estimate(0.0, 0.03**2, 8), Estimate(0.0, 0.0, 8)
    found = change([quiet], noisy, spread=0.005)
    times = found.longer(1.05, 0.95)
    assert times is not None
    assert times > 1
    half = student_quantile(0.95, found.between_degrees) * math.sqrt(found.within / times + found.between)
    assert half == pytest.approx(math.log(1.05))
    assert change([quiet], noisy, spread=0.1).longer(1.05, 0.95) is None
