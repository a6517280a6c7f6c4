from __future__ import annotations

from edge_runtime.server.statistics import ModelStatistics, RunTimes, statistics_record


def counted() -> ModelStatistics:
    statistics = ModelStatistics()
    statistics.add_run(RunTimes(110, 130, 170, 250), [100], rows=2, wall_ms=7)
    statistics.add_run(RunTimes(1, 2, 3, 4), [0], rows=2, wall_ms=8)
    statistics.add_run(RunTimes(10, 20, 30, 40), [0], rows=5, wall_ms=9)
    statistics.add_failure("REJECTED", 5)
    statistics.add_failure("OTHER", 6)
    return statistics


def test_the_record_is_the_protocols() -> None:
    duration = lambda count, ns: {"count": count, "ns": ns}  # noqa: E731
    assert statistics_record("m", "3", counted().totals) == {
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


def test_a_run_of_several_requests_counts_once_and_each_of_them() -> None:
    statistics = ModelStatistics()
    statistics.add_run(RunTimes(100, 110, 140, 145), [0, 50, 90], rows=6, wall_ms=7)
    record = statistics_record("m", "3", statistics.totals)
    assert (record["inference_count"], record["execution_count"]) == (6, 1)
    assert record["inference_stats"]["success"] == {"count": 3, "ns": 145 + 95 + 55}
    assert record["inference_stats"]["queue"] == {"count": 3, "ns": 100 + 50 + 10}
    assert record["inference_stats"]["compute_infer"] == {"count": 3, "ns": 3 * 30}
    (batch,) = record["batch_stats"]
    assert (batch["batch_size"], batch["compute_infer"]) == (6, {"count": 1, "ns": 30})
