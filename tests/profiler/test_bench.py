from __future__ import annotations

import json

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, InvalidRequestError, PlanNotFoundError
from edge_runtime.profiler.bench import bench_engine
from edge_runtime.profiler.settings import BenchSettings


class Ticking:
    """A made-up clock: every look at it costs a millisecond."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        self.now_ns += 1_000_000
        return self.now_ns


class Stages:
    def __init__(self):
        self.seen = []

    def stage(self, name, total=None):
        self.seen.append((name, total))

    def advance(self, steps=1):
        pass


def test_a_plan_is_measured_in_process_with_its_cold_start_apart(make_plan):
    plan = make_plan()
    report = bench_engine(plan.folder, BenchSettings(n=70, warm_up=3), clock=Ticking())
    assert (report.latency.n, report.latency.p50_ms, report.latency.p90_ms, report.latency.p99_ms) == (
        70,
        1.0,
        1.0,
        None,
    )
    assert (report.cold_start.load_ms, report.cold_start.first_inference_ms) == (1.0, 1.0)
    assert report.inputs == {"x": {"dtype": "FP32", "shape": [1, 4]}}
    assert report.target["backend"].startswith("onnxruntime ")


def test_the_report_is_json_with_units_in_its_names(make_plan):
    record = json.loads(json.dumps(bench_engine(make_plan(), BenchSettings(n=5, batch=3, seed=7)).record()))
    assert (record["schema"], record["target"]["kind"], record["target"]["model"]) == (1, "engine", "relu")
    assert record["input"] == {"source": "random, seed 7", "tensors": {"x": {"dtype": "FP32", "shape": [3, 4]}}}
    assert record["throughput"]["samples_per_s"] == pytest.approx(3 * record["throughput"]["calls_per_s"])
    assert set(record["cold_start"]) == {"load_ms", "first_inference_ms"}
    assert record["latency"]["p99_ms"] is None
    assert record["settings"]["n"] == 5
    assert {"power", "temperature", "time per layer"} <= set(record["not_measured"])


def test_the_table_says_what_is_missing(make_plan):
    rows = dict(bench_engine(make_plan(), BenchSettings(n=5, warm_up=0)).rows())
    assert rows["p99"] == "n too small (662 needed)"
    assert rows["power"] == rows["temperature"] == rows["time per layer"] == "not measured"
    assert rows["input"] == "random, seed 0: x FP32 1x4"
    assert rows["first inference"].endswith(" ms")


def test_a_model_without_a_batch_axis_has_no_throughput_in_samples(make_plan):
    report = bench_engine(make_plan(2, 2, 2), BenchSettings(n=3))
    assert report.samples_per_s is None
    assert report.inputs["x"]["shape"] == [2, 4]
    assert not any("samples/s" in value for _, value in report.rows())


def test_layers_are_timed_on_request_in_runs_of_their_own(make_plan):
    stages = Stages()
    settings = BenchSettings(n=5, warm_up=2, layers=True, layer_runs=3)
    report = bench_engine(make_plan().folder, settings, progress=stages)
    record = json.loads(json.dumps(report.record()))
    assert [layer["nodes"] for layer in record["layers"]["layers"]] == [["node_of_y"]]
    assert record["layers"]["runs"] == 3
    assert "time per layer" not in record["not_measured"]
    assert "1 layers on onnxruntime, 3 runs" in dict(report.rows())["layers"]
    assert stages.seen[-1] == ("timing layers", None)


def test_a_trace_says_what_was_measured_and_where(make_plan):
    trace = bench_engine(make_plan(), BenchSettings(n=5, layers=True, layer_runs=2)).trace()
    assert trace["metadata"]["target"]["model"] == "relu"
    assert trace["metadata"]["environment"]["versions"]["onnxruntime"]
    assert [event["name"] for event in trace["traceEvents"] if event.get("cat") == "run"] == ["run 1", "run 2"]


def test_layers_are_null_where_they_were_not_asked_for(make_plan):
    assert bench_engine(make_plan(), BenchSettings(n=3)).record()["layers"] is None


def test_given_inputs_are_used_and_said(make_plan):
    report = bench_engine(make_plan(), BenchSettings(n=3), {"x": np.zeros((2, 4), np.float32)})
    assert (report.input_source, report.samples_per_call) == ("given", 2)


def test_concurrent_callers_each_have_a_slot(make_plan):
    report = bench_engine(make_plan(), BenchSettings(n=200, concurrency=4, threads=1))
    assert report.latency.n == 200
    assert report.target["threads_per_run"] == 1


def test_warm_up_and_timing_are_stages(make_plan):
    stages = Stages()
    bench_engine(make_plan(), BenchSettings(n=10, warm_up=4), progress=stages)
    assert stages.seen == [("warm-up", 4), ("timing", 10)]


def test_a_duration_ends_the_run(make_plan):
    report = bench_engine(make_plan(), BenchSettings(n=10_000, warm_up=0, duration_s=0.02), clock=Ticking())
    assert 1 <= report.latency.n <= 10


def test_wrong_inputs_and_plans_are_refused(make_plan, tmp_path):
    plan = make_plan()
    with pytest.raises(InvalidRequestError):
        bench_engine(plan, BenchSettings(), {"x": np.zeros((9, 4), np.float32)})
    with pytest.raises(ConfigError, match="batch 5: expected 1 to 4"):
        bench_engine(plan, BenchSettings(batch=5))
    with pytest.raises(PlanNotFoundError):
        bench_engine(tmp_path / "none", BenchSettings())


def test_no_setting_lacks_a_description():
    assert all(field.description for field in BenchSettings.model_fields.values())
