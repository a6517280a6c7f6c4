from __future__ import annotations

import json

import pytest

from edge_runtime.engine.layers import LayerProfile, LayerTimes
from edge_runtime.profiler.layers import HEADER, LayerReport


def layer(name, durations, starts=(), **kwargs):
    fields = {"kind": "Conv", "precision": "INT8", "nodes": ("a", "b"), **kwargs}
    return LayerTimes(name=name, durations_us=tuple(durations), starts_us=tuple(starts), **fields)


def report(*layers, **kwargs):
    fields = {"backend": "made-up", "runs": len(layers[0].durations_us), "whole_us": (), **kwargs}
    return LayerReport(LayerProfile(layers=layers, **fields))


def runs_of(trace):
    return [event for event in trace["traceEvents"] if event.get("cat") == "run"]


def layers_of(trace):
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] != "run"]


def test_rows_are_in_execution_order_with_their_nodes():
    rows = report(layer("small", [1000.0] * 64), layer("large", [3000.0] * 64, kind="", precision="", nodes=())).rows()
    assert rows[0] == ("small", "Conv", "INT8", "1.000", "1.000", "25.0%", "a, b")
    assert rows[1] == ("large", "", "", "3.000", "3.000", "75.0%", "")
    assert {len(row) for row in rows} == {len(HEADER)}


def test_p90_needs_64_runs():
    few = report(layer("l", [1.0] * 63))
    assert few.rows()[0][4] == "n < 64"
    assert few.record()["layers"][0]["p90_ms"] is None
    assert report(layer("l", range(1, 65))).record()["layers"][0]["p90_ms"] == pytest.approx(0.0577)


def test_the_sum_of_the_layers_stands_beside_whole_runs_with_and_without_profiling():
    found = report(layer("a", [1000.0, 1000.0]), layer("b", [2000.0, 4000.0]), whole_us=(5000.0, 7000.0))
    assert (found.sum_ms, found.whole_ms) == (4.0, 6.0)
    assert found.summary(1.5) == (
        "2 layers on made-up, 2 runs: 4.000 ms in layers of 6.000 ms a run while profiled; "
        "1.500 ms a run without profiling, measured apart"
    )
    assert found.summary(1.5, callers=4).endswith("measured apart with 4 callers at once")


def test_a_whole_run_that_was_not_timed_is_unknown():
    found = report(layer("a", [1000.0]))
    assert found.record()["whole_run_ms"] is None
    assert "while profiled" not in found.summary(1.0)


def test_the_record_is_json_with_null_for_what_is_unknown():
    record = json.loads(json.dumps(report(layer("a", [1.0], kind="", precision="", nodes=())).record()))
    assert record["layers"][0] == {
        "name": "a",
        "kind": None,
        "precision": None,
        "nodes": [],
        "median_ms": 0.001,
        "mean_ms": 0.001,
        "p90_ms": None,
        "min_ms": 0.001,
        "max_ms": 0.001,
        "share": 1.0,
    }


def test_layers_that_took_no_time_have_no_share():
    assert report(layer("a", [0.0])).record()["layers"][0]["share"] == 0.0


def test_a_trace_has_the_backends_starts():
    found = report(layer("a", [5.0, 6.0], [11.0, 111.0]), whole_us=(50.0, 60.0), whole_starts_us=(10.0, 110.0))
    trace = json.loads(json.dumps(found.trace({"environment": {"board": "none"}})))
    assert [(event["ts"], event["dur"]) for event in runs_of(trace)] == [(10.0, 50.0), (110.0, 60.0)]
    assert [(event["ts"], event["dur"]) for event in layers_of(trace)] == [(11.0, 5.0), (111.0, 6.0)]
    assert layers_of(trace)[0]["args"] == {"precision": "INT8", "onnx_nodes": ["a", "b"]}
    assert trace["displayTimeUnit"] == "ms"
    assert trace["metadata"] == {"environment": {"board": "none"}, "notes": []}


def test_layers_without_starts_are_laid_end_to_end_and_it_is_said():
    found = report(layer("a", [5.0, 6.0]), layer("b", [1.0, 2.0]), whole_us=(10.0, 4.0))
    trace = found.trace({})
    assert [(event["ts"], event["dur"]) for event in runs_of(trace)] == [(0.0, 10.0), (10.0, 8.0)]
    assert [event["ts"] for event in layers_of(trace)] == [0.0, 5.0, 10.0, 16.0]
    assert "end to end" in trace["metadata"]["notes"][-1] == found.notes[-1]
