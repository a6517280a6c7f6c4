from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.evaluation.latency import (
    LatencySummary,
    TimingOptions,
    interleaved,
    min_samples,
    overlatency_budget,
)

MS = 1_000_000


class FakeClock:
    """Nanoseconds that pass only when told."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns

    def taking(self, *durations_ms):
        """A callable that takes each of these times in turn."""
        durations = itertools.cycle(durations_ms)

        def call():
            self.now_ns += round(next(durations) * MS)

        return call


@pytest.mark.parametrize(
    ("percentile", "overlatency", "samples"), [(0.9, 1, 64), (0.99, 1, 662), (0.999, 1, 6636), (0.99, 0, 459)]
)
def test_the_smallest_samples_are_loadgens(percentile, overlatency, samples):
    assert min_samples(percentile, overlatency) == samples
    assert overlatency_budget(samples, percentile) == overlatency
    assert overlatency_budget(samples - 1, percentile) == overlatency - 1


def test_as_many_samples_are_discarded_as_loadgen_printed_for_a_run_of_2048():
    assert overlatency_budget(2048, 0.9) - 1 == 172


@given(n=st.integers(1, 800), percentile=st.sampled_from([0.5, 0.9, 0.99]))
@settings(max_examples=60, deadline=None)
def test_the_budget_is_the_binomial_tails(n, percentile):
    chance = 1 - percentile
    odds = itertools.accumulate(math.comb(n, i) * chance**i * percentile ** (n - i) for i in range(n + 1))
    expected = sum(1 for value in odds if value < 0.01) - 1
    assert overlatency_budget(n, percentile) == expected


@pytest.mark.parametrize(("n", "given_fields"), [(63, 0), (64, 1), (661, 1), (662, 2), (6635, 2), (6636, 3)])
def test_a_percentile_is_none_until_n_is_large_enough(n, given_fields):
    summary = LatencySummary.from_durations(np.arange(1, n + 1) * MS)
    plain = [summary.p90_ms, summary.p99_ms, summary.p999_ms]
    bounds = [summary.p90_bound_ms, summary.p99_bound_ms, summary.p999_bound_ms]
    for values in (plain, bounds):
        assert [value is not None for value in values] == [True] * given_fields + [False] * (3 - given_fields)
    texts = dict(summary.rows())
    assert [("n too small" in texts[name]) for name in ("p90", "p99", "p99.9")] == [v is None for v in plain]


def test_a_summary_is_in_milliseconds_and_calls_a_second():
    summary = LatencySummary.from_durations([3 * MS, 1 * MS, 2 * MS, 6 * MS])
    assert (summary.n, summary.mean_ms, summary.min_ms, summary.p50_ms, summary.max_ms) == (4, 3.0, 1.0, 2.5, 6.0)
    assert summary.throughput_per_s == pytest.approx(4 / 0.012)


def test_throughput_of_overlapping_calls_is_over_the_whole_run():
    assert LatencySummary.from_durations([2 * MS] * 10, elapsed_ns=10 * MS).throughput_per_s == 1000.0


def test_the_bound_is_the_sample_that_the_budget_leaves_at_the_top():
    summary = LatencySummary.from_durations(np.arange(1, 65) * MS)
    assert summary.p90_bound_ms == 64.0
    assert summary.p90_ms == pytest.approx(np.percentile(np.arange(1, 65), 90))


@given(st.lists(st.integers(0, 10**12), min_size=64, max_size=900))
@settings(max_examples=40, deadline=None)
def test_figures_are_ordered(durations):
    summary = LatencySummary.from_durations(durations)
    assert summary.min_ms <= summary.p50_ms <= summary.p90_ms <= summary.p90_bound_ms <= summary.max_ms


def test_no_durations_are_an_error():
    with pytest.raises(DataError, match="at least one duration"):
        LatencySummary.from_durations([])


def test_candidates_run_in_the_order_a_b_b_a_after_warm_up():
    clock, calls = FakeClock(), []
    options = TimingOptions(budget_s=1, min_rounds=6, max_rounds=6, warm_up_rounds=1)
    interleaved(lambda: calls.append("a"), lambda: calls.append("b"), options=options, clock=clock)
    assert "".join(calls) == "abba" * 7


def test_a_ratio_is_to_the_first_with_its_interval():
    clock = FakeClock()
    options = TimingOptions(budget_s=60, min_rounds=6, max_rounds=40)
    result = interleaved(clock.taking(2.0), clock.taking(3.0), clock.taking(1.0), options=options, clock=clock)
    assert [ratio.ratio for ratio in result.ratios] == [1.0, 1.5, 0.5]
    assert all(ratio.low == ratio.ratio == ratio.high for ratio in result.ratios)
    assert (result.rounds, [summary.n for summary in result.summaries]) == (40, [80, 80, 80])


def test_any_two_can_be_compared():
    clock = FakeClock()
    calls = [clock.taking(duration) for duration in (2.0, 3.0, 1.0)]
    result = interleaved(*calls, options=TimingOptions(min_rounds=6, max_rounds=6), clock=clock)
    assert result.ratio(2, 1).ratio == pytest.approx(1 / 3)
    assert result.ratio(0, 1).ratio == pytest.approx(2 / 3)
    assert [result.ratio(index) for index in range(3)] == list(result.ratios)


def test_a_ratio_of_two_others_is_of_the_same_rounds():
    clock, rng = FakeClock(), np.random.default_rng(0)
    noise = rng.lognormal(0.0, 0.5, 36)
    busy = [clock.taking(*(noise * factor).repeat(2)) for factor in (1.0, 2.0)]
    options = TimingOptions(min_rounds=30, max_rounds=30, warm_up_rounds=0)
    result = interleaved(clock.taking(1.0), *busy, options=options, clock=clock)
    ratio = result.ratio(2, 1)
    assert (ratio.low, ratio.ratio, ratio.high) == tuple(pytest.approx(2.0, rel=1e-6) for _ in range(3))
    assert result.ratio(1).low < result.ratio(1).high


def test_of_three_each_has_its_turn_in_the_middle():
    clock, calls = FakeClock(), []
    options = TimingOptions(budget_s=1, min_rounds=6, max_rounds=6, warm_up_rounds=0)
    interleaved(*(lambda name=name: calls.append(name) for name in "abc"), options=options, clock=clock)
    assert "".join(calls) == "abccbabcaacbcabbac" * 2


def test_drift_within_a_round_cancels():
    clock = FakeClock()
    slower_and_slower = iter(range(1, 10**6))

    def call():
        clock.now_ns += next(slower_and_slower) * 1000

    result = interleaved(call, call, options=TimingOptions(min_rounds=10, max_rounds=10), clock=clock)
    assert result.ratios[1].ratio == 1.0


def test_the_interval_of_a_noisy_ratio_covers_the_median_and_is_not_all_of_the_range():
    clock, rng = FakeClock(), np.random.default_rng(0)
    noisy = clock.taking(*rng.lognormal(0.0, 0.5, 5000))
    options = TimingOptions(budget_s=1e6, min_rounds=100, max_rounds=100, warm_up_rounds=0)
    ratio = interleaved(noisy, noisy, options=options, clock=clock).ratios[1]
    assert ratio.low < ratio.ratio < ratio.high
    assert 0.7 < ratio.low <= 1.0 <= ratio.high < 1.4


def test_the_budget_ends_the_rounds_but_not_before_the_smallest_number():
    clock = FakeClock()
    slow = clock.taking(100.0)
    assert interleaved(slow, slow, options=TimingOptions(budget_s=4.0), clock=clock).rounds == 10
    assert interleaved(slow, slow, options=TimingOptions(budget_s=0.1), clock=clock).rounds == 10
    assert interleaved(slow, slow, options=TimingOptions(budget_s=40.0), clock=clock).rounds == 90


@pytest.mark.parametrize(
    "wrong", [{"min_rounds": 0}, {"min_rounds": 5}, {"max_rounds": 5}, {"confidence": 1.0}, {"confidence": 0.9999}]
)
def test_options_that_allow_no_interval_are_refused(wrong):
    with pytest.raises(ConfigError):
        TimingOptions(**wrong)
