from __future__ import annotations

import threading

import pytest

from edge_runtime.server.statistics import FAILURE_REASONS, ModelStatistics, RunTimes, statistics_record


def counted() -> ModelStatistics:
    statistics = ModelStatistics()
    statistics.add_success(RunTimes(100, 110, 130, 170, 250), rows=2, wall_ms=7)
    statistics.add_success(RunTimes(0, 1, 2, 3, 4), rows=2, wall_ms=8)
    statistics.add_success(RunTimes(0, 10, 20, 30, 40), rows=5, wall_ms=9)
    statistics.add_failure("REJECTED", 5)
    statistics.add_failure("OTHER", 6)
    return statistics


def test_the_record_is_the_protocols() -> None:
    duration = lambda count, ns: {"count": count, "ns": ns}  # noqa: E731
    assert statistics_record("m", "3", counted().totals()) == {
        "name": "m",
        "version": "3",
        "last_inference": 9,
        "inference_count": 9,
        "execution_count": 3,
        "inference_stats": {
            "success": duration(3, 194),
            "fail": duration(2, 11),
            "queue": duration(3, 21),
            "compute_input": duration(3, 31),
            "compute_infer": duration(3, 51),
            "compute_output": duration(3, 91),
            "cache_hit": duration(0, 0),
            "cache_miss": duration(0, 0),
        },
        "batch_stats": [
            {
                "batch_size": 2,
                "compute_input": duration(2, 21),
                "compute_infer": duration(2, 41),
                "compute_output": duration(2, 81),
            },
            {
                "batch_size": 5,
                "compute_input": duration(1, 10),
                "compute_infer": duration(1, 10),
                "compute_output": duration(1, 10),
            },
        ],
    }


def test_totals_are_a_copy() -> None:
    statistics = counted()
    before = statistics.totals()
    statistics.add_failure("OTHER", 1)
    statistics.add_success(RunTimes(0, 1, 2, 3, 4), rows=2, wall_ms=8)
    assert (before.success, before.failures["OTHER"], before.parts_ns["queue"], before.batches[2][0]) == (3, 1, 21, 2)


@pytest.mark.parametrize("reason", FAILURE_REASONS)
def test_counts_of_many_threads_are_exact(reason: str) -> None:
    statistics = ModelStatistics()

    def work() -> None:
        for _ in range(500):
            statistics.add_failure(reason, 1)
            statistics.add_success(RunTimes(0, 1, 2, 3, 4), rows=1, wall_ms=0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = statistics.totals()
    assert (totals.success, totals.success_ns, totals.failures[reason], totals.failure_ns) == (2000, 8000, 2000, 2000)
