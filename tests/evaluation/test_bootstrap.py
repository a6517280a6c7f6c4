"""The bootstrap against closed forms, its pairing, its memory and its budget."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from edge_runtime.evaluation.bootstrap import Resampling, percentile_interval, resampled_means

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("rows", [200, 4_096, 4_097, 300_000])
def test_means_scatter_by_the_standard_error(rows):
    table = RNG.exponential(size=(rows, 2))
    (means,) = resampled_means([table], Resampling())
    assert means.shape == (1_000, 2)
    assert means.mean(axis=0) == pytest.approx(table.mean(axis=0), rel=0.01)
    assert means.std(axis=0) == pytest.approx(table.std(axis=0) / math.sqrt(rows), rel=0.15)


def test_tables_of_equal_length_are_drawn_in_pairs_and_others_on_their_own():
    table = RNG.normal(size=(50, 1))
    same, shifted, longer = resampled_means([table, table + 3, RNG.normal(size=(60, 2))], Resampling())
    assert shifted - same == pytest.approx(np.full((1_000, 1), 3.0))
    assert longer.shape == (1_000, 2)


def test_a_seed_gives_the_same_draws_and_another_others():
    table = RNG.normal(size=(50, 1))
    first, again, other = (resampled_means([table], Resampling(seed=seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_million_rows_take_bounded_memory():
    table = RNG.normal(size=(1_000_000, 1))
    tracemalloc.start()
    try:
        resampled_means([table], Resampling())
        assert tracemalloc.get_traced_memory()[1] < 2 * table.nbytes + (32 << 20)
    finally:
        tracemalloc.stop()


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    covered = 0
    for trial in range(300):
        (means,) = resampled_means([RNG.exponential(size=(60, 1))], Resampling(200, seed=trial))
        low, high = percentile_interval(means[:, 0])
        covered += low <= 1.0 <= high
    assert 0.87 <= covered / 300 <= 0.98


@pytest.mark.parametrize("values", [[], [1.0] * 49, [1.0] * 99 + [math.inf], [math.nan] * 99])
def test_too_few_values_or_any_that_isnt_finite_give_no_interval(values):
    assert percentile_interval(values) == (None, None)


class FakeClock:
    def __init__(self, step_s: float) -> None:
        self.now_ns = 0
        self.step_ns = round(step_s * 1e9)

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@pytest.mark.parametrize(("step_s", "calls"), [(0.0, 200), (0.01, 200), (0.03, 167), (0.2, 1), (9.0, 0)])
def test_calls_end_with_the_budget_and_at_once_where_too_few_would_fit(step_s, calls):
    assert abs(len(list(Resampling(clock=FakeClock(step_s)).affordable())) - calls) <= 1
