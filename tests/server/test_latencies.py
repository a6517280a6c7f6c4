from __future__ import annotations

import random

import numpy as np
import pytest

from edge_runtime.server.latencies import BUCKETS, Latencies, bucket_of, cumulative, percentiles_ns, upper_ns


def test_a_bucket_holds_its_duration_to_three_percent() -> None:
    rng = random.Random(0)
    for duration in [*range(200), *(int(2 ** rng.uniform(0, 50)) for _ in range(5000))]:
        bucket = bucket_of(duration)
        lower = upper_ns(bucket - 1) if bucket else -1
        assert lower < duration <= upper_ns(bucket)
        assert upper_ns(bucket) <= duration * 1.032 + 1


@pytest.mark.parametrize("duration", [-5, 0, 1 << 62, 1 << 80])
def test_durations_beyond_all_buckets_are_counted(duration: int) -> None:
    latencies = Latencies()
    latencies.recent_ns.append(duration)
    assert sum(latencies.counts()) == 1


@pytest.mark.parametrize("n", [1, 2, 99, 1000])
def test_percentiles_are_those_of_numpy_to_three_percent(n: int) -> None:
    durations = (np.random.default_rng(n).lognormal(14, 1, n)).astype(int)
    latencies = Latencies()
    for duration in durations:
        latencies.recent_ns.append(int(duration))
    expected = np.percentile(durations, [50, 90, 99], method="inverted_cdf")
    found = percentiles_ns(latencies.counts(), [50, 90, 99])
    assert np.all(found >= expected)
    assert np.all(found <= expected * 1.032 + 1)


def test_counts_within_bounds_add_up() -> None:
    latencies = Latencies()
    for milliseconds in (0.3, 0.7, 3, 3, 7000):
        latencies.recent_ns.append(round(milliseconds * 1e6))
    assert cumulative(latencies.counts(), [500_000, 1_000_000, 5_000_000]) == [1, 2, 4]


@pytest.mark.parametrize("longest", [100, 10**6, 1 << 52])
def test_durations_go_into_the_buckets_that_hold_them(longest: int) -> None:
    latencies = Latencies()
    durations = [*np.random.default_rng(0).integers(0, longest, 500).tolist(), *(1 << shift for shift in range(60))]
    latencies.recent_ns += durations
    assert latencies.counts().tolist() == np.bincount(list(map(bucket_of, durations)), minlength=BUCKETS).tolist()
