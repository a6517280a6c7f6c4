from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.profiler.calls import CallTable
from edge_runtime.profiler.distribution import histogram, timeline
from edge_runtime.profiler.stages import ENQUEUE, STAGES, WAITED, WIDTH

steps = st.lists(st.lists(st.integers(0, 10**9), min_size=WIDTH - 1, max_size=WIDTH - 1), min_size=1, max_size=30)


def table(rows, tells_submission):
    stamps = np.zeros((len(rows), WIDTH), np.int64)
    stamps[:, :WAITED] = np.cumsum(np.array(rows, np.int64), axis=1)
    return CallTable(stamps, np.zeros(len(rows), np.int32), tells_submission)


@given(steps, st.booleans())
def test_stages_add_up_to_the_latency(rows, tells_submission):
    calls = table(rows, tells_submission)
    assert (sum(calls.stage_ns().values()) == calls.latency_ns).all()
    shares = [stage["share"] for stage in calls.stage_records() if stage["n"]]
    assert abs(sum(shares) - bool(calls.latency_ns.any())) < 1e-6


@given(steps)
def test_a_histogram_counts_every_call(rows):
    latency_ns = table(rows, False).latency_ns
    drawn = histogram(latency_ns)
    edges = drawn["edges_ms"]
    assert sum(drawn["counts"]) == len(rows)
    assert len(edges) == len(drawn["counts"]) + 1
    assert edges == sorted(edges)


def test_a_stage_that_the_backend_does_not_tell_apart_says_why():
    records = {stage["name"]: stage for stage in table([[1] * (WIDTH - 1)], False).stage_records()}
    assert tuple(records) == STAGES
    assert records[ENQUEUE] == {
        "name": "enqueue",
        "n": 0,
        **dict.fromkeys(("mean_ms", "p50_ms", "p90_ms", "p99_ms", "share")),
        "why": "this backend runs in one call: enqueueing is within compute",
    }
    assert "why" not in table([[1] * (WIDTH - 1)], True).stage_records()[3]


@pytest.mark.parametrize(("calls", "known"), [(63, []), (64, ["p90_ms"]), (662, ["p90_ms", "p99_ms"])])
def test_a_stage_has_no_percentile_of_too_few_calls(calls, known):
    (parse, *_) = table([[1] * (WIDTH - 1)] * calls, False).stage_records()
    assert [key for key in ("p90_ms", "p99_ms") if parse[key] is not None] == known


def test_a_thinned_timeline_keeps_every_outlier():
    latency_ns = np.full(100_000, 1_000_000)
    outliers = np.array([17, 50_001, 99_998])
    latency_ns[outliers] = 9_000_000
    drawn = timeline(np.arange(100_000) / 1e3, latency_ns, outliers)
    assert drawn["thinned"]
    assert len(drawn["start_s"]) == len(drawn["latency_ms"]) <= 5000
    assert [at for at, ms in zip(drawn["start_s"], drawn["latency_ms"]) if ms == 9.0] == [0.017, 50.001, 99.998]


def test_a_short_timeline_is_whole():
    drawn = timeline(np.arange(3.0), np.array([1, 2, 3]), np.array([], np.int64))
    assert (drawn["start_s"], drawn["thinned"]) == ([0.0, 1.0, 2.0], False)
