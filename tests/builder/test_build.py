from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import edge_runtime
from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.recipe import make_recipe
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import BackendError, CalibrationError, ConfigError, DataError, GateError, ModelError
from edge_runtime.plan.golden import read_golden
from edge_runtime.plan.manifest import CandidateRecord, Manifest
from edge_runtime.plan.store import PlanStore


class Notes:
    """Progress that keeps what it hears."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)

    def advance(self, steps: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


class Bench:
    """A folder with a model, its data and a store, and a way to build in it."""

    def __init__(self, folder: Path, model: bytes) -> None:
        self.folder = folder
        (folder / "m.onnx").write_bytes(model)
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(200, 4)).astype(np.float32)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        labels = session.run(None, {"x": rows})[0].argmax(axis=1)
        np.savez(folder / "c.npz", x=rows[:100])
        np.savez(folder / "h.npz", x=rows[100:], label=labels[100:])
        self.options = BuildOptions(folder / "engines", folder / "calib_cache")
        self.store = PlanStore(self.options.engines)

    def build(
        self, policy: str, tables: Dict[str, Any] | None = None, progress: Notes | None = None, **options: Any
    ) -> BuiltPlan:
        content: Dict[str, Any] = {
            "model": {"path": "m.onnx"},
            "calibration": {"data": "c.npz"},
            "held_out": {"data": "h.npz"},
            "precision": {"policy": policy},
            "gate": {"latency_budget_s": 0.1},
        }
        for name, table in (tables or {}).items():
            content[name] = {**content.get(name, {}), **table}
        recipe = make_recipe(content, "m", self.folder, environ={})
        return build(
            recipe, BuildOptions(self.options.engines, self.options.calib_cache, **options), progress or Notes()
        )


@pytest.fixture
def bench(tmp_path: Path, classifier: bytes) -> Bench:
    return Bench(tmp_path, classifier)


def chosen(manifest: Manifest) -> CandidateRecord:
    (record,) = [record for record in manifest.candidates if record.verdict == "chosen"]
    return record


@pytest.mark.parametrize("policy", ["fp32", "fp16", "int8"])
def test_an_explicit_precision_is_what_is_built_and_served(bench: Bench, policy: str) -> None:
    plan = bench.build(policy, {"gate": {"max_drop": 0.1}})
    assert (plan.manifest.precision, plan.manifest.forced, plan.is_reused) == (policy, False, False)
    assert [c.precision for c in plan.manifest.candidates if c.verdict == "chosen"] == [policy]
    x = np.ones((3, 4), np.float32)
    with edge_runtime.load(plan) as engine, edge_runtime.load(bench.build("fp32")) as reference:
        got, want = engine.infer({"x": x})["scores"], reference.infer({"x": x})["scores"]
    np.testing.assert_allclose(got, want, atol=0.2)


def test_auto_builds_one_of_them_and_says_why_not_the_others(bench: Bench) -> None:
    manifest = bench.build("auto").manifest
    assert chosen(manifest).precision == manifest.precision
    names = [record.name for record in manifest.candidates]
    assert names == ["fp32", "fp16", "int8 entropy", "int8 percentile", "int8 mse", "int8 max"]
    assert manifest.reason.startswith(chosen(manifest).name)
    assert all(record.reason for record in manifest.candidates)


def test_an_unchanged_build_is_recognised_and_a_changed_one_is_not(bench: Bench) -> None:
    lenient = {"gate": {"max_drop": 0.1}}
    first = bench.build("int8", lenient)
    again = bench.build("int8", lenient)
    assert (again.is_reused, again.folder) == (True, first.folder)
    assert bench.build("int8", {**lenient, "calibration": {"max_clipped": 0.01}}).manifest.version == 2
    np.savez(bench.folder / "c.npz", x=np.random.default_rng(5).normal(size=(90, 4)).astype(np.float32))
    assert not bench.build("int8", lenient).is_reused


def test_building_an_older_recipe_again_serves_its_plan_again(bench: Bench) -> None:
    bench.build("fp32")
    bench.build("fp16", {"gate": {"max_drop": 0.1}})
    assert bench.store.served("m") == 2
    assert bench.build("fp32").is_reused
    assert bench.store.served("m") == 1
    assert bench.build("int8").manifest.version == 3
    assert bench.store.served("m") == 3


def test_a_damaged_plan_is_built_again(bench: Bench) -> None:
    plan = bench.build("fp32")
    plan.plan_path.write_bytes(b"damaged")
    assert bench.build("fp32").manifest.version == 2


def test_a_precision_that_loses_too_much_is_not_published_unless_told(bench: Bench) -> None:
    strict = {"metric": {"name": "cosine"}, "gate": {"max_drop": 1e-9}}
    with pytest.raises(GateError, match=r"int8 max: .*cosine .* only 1e-07 % allowed.*; nothing was published"):
        bench.build("int8", strict)
    assert not bench.options.engines.exists()
    forced = bench.build("int8", {**strict, "gate": {"max_drop": 1e-9, "publish_failed": True}}).manifest
    assert forced.forced
    assert [record.verdict for record in forced.candidates].count("forced") == 1
    with pytest.raises(GateError):
        bench.build("int8", strict)
    assert bench.build("auto", strict).manifest.candidates[-1].verdict == "refused"


def test_data_that_cannot_be_calibrated_on_stops_int8_but_not_auto(bench: Bench) -> None:
    np.savez(bench.folder / "c.npz", x=np.full((10, 4), 0.5, np.float32))
    with pytest.raises(CalibrationError, match="all 10 calibration rows are equal"):
        bench.build("int8")
    manifest = bench.build("auto").manifest
    assert (manifest.candidates[-1].name, manifest.candidates[-1].verdict) == ("int8", "unavailable")
    assert any("all 10 calibration rows are equal" in note for note in manifest.notes)


def test_held_out_rows_that_were_calibrated_on_are_refused(bench: Bench) -> None:
    rows = np.load(bench.folder / "c.npz")["x"]
    np.savez(bench.folder / "h.npz", x=rows[:7])
    with pytest.raises(DataError, match="7 held-out rows are in the calibration data too"):
        bench.build("int8")


def test_without_held_out_data_a_quarter_of_the_calibration_data_is_held_out(bench: Bench) -> None:
    (bench.folder / "h.npz").unlink()
    recipe = {
        "model": {"path": str(bench.folder / "m.onnx"), "name": "m"},
        "calibration": {"data": str(bench.folder / "c.npz")},
        "precision": {"policy": "int8"},
        "gate": {"latency_budget_s": 0.1},
    }
    progress = Notes()
    metric = chosen(build(recipe, bench.options, progress).manifest).metric
    assert metric is not None
    assert (metric.name, metric.n) == ("cosine", 25)
    assert any("every fourth calibration sample is held out" in note for note in progress.notes)


def test_histograms_are_kept_and_used_again_whatever_the_algorithm(bench: Bench) -> None:
    bench.build("int8")
    (folder,) = bench.options.calib_cache.glob("m/*")
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["entropy.cache", "histograms.npz", "max.cache", "mse.cache", "percentile.cache"]
    notes = Notes()
    bench.build("int8", {"calibration": {"algorithm": "max"}, "gate": {"max_drop": 0.5}}, notes)
    assert "calibrating" not in notes.stages
    assert f"histograms re-used: {folder / 'histograms.npz'}" in notes.notes


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_damaged_histograms_are_collected_again(bench: Bench, content: bytes) -> None:
    plan = bench.build("int8")
    (path,) = bench.options.calib_cache.glob("m/*/histograms.npz")
    path.write_bytes(content)
    notes = Notes()
    again = bench.build("int8", {"gate": {"max_drop": 0.5}}, notes)
    assert "calibrating" in notes.stages
    assert again.read_plan() == plan.read_plan()


def test_two_builders_of_the_same_recipe_make_one_version(bench: Bench) -> None:
    command = [sys.executable, "-c", "from edge_runtime.cli.main import main; main()", "build", "m.onnx", "--json"]
    children = [
        subprocess.Popen(command, cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(3)
    ]
    for child in children:
        assert json.loads(child.communicate()[0])["plan"] == "engines/m/1"
        assert child.returncode == 0


METRIC = """
def score(outputs, samples):
    return {value}
"""


def test_a_metric_of_ones_own_decides_and_its_module_is_part_of_the_key(bench: Bench) -> None:
    metric = {"metric": {"name": "own:score"}}
    (bench.folder / "own.py").write_text(METRIC.format(value=0.5))
    record = bench.build("fp16", metric).manifest.candidates[-1]
    assert (record.verdict, record.metric and record.metric.n) == ("chosen", 100)
    assert bench.build("fp16", metric).is_reused
    (bench.folder / "own.py").write_text(METRIC.format(value="float('nan')"))
    with pytest.raises(GateError):
        bench.build("fp16", metric)
    (bench.folder / "own.py").unlink()
    with pytest.raises(ConfigError, match="no module 'own'"):
        bench.build("fp16", metric)


def test_a_target_of_zeros_is_held_against_the_float_models_outputs(bench: Bench) -> None:
    held_out = np.load(bench.folder / "h.npz")["x"]
    np.savez(bench.folder / "h.npz", x=held_out, **{"expected/scores": np.zeros((100, 3), np.float32)})
    for metric in ("mse", "max-abs"):
        assert bench.build("int8", {"metric": {"name": metric}}).manifest.precision == "int8"


def test_a_smallest_batch_above_one_leaves_a_rest_out(bench: Bench) -> None:
    ranges = {"x": {"min": [3, 4], "opt": [3, 4], "max": [7, 4]}}
    metric = bench.build("fp32", {"input": ranges}).manifest.candidates[0].metric
    assert metric is not None
    assert metric.n == 98


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"metric": {"output": "score"}}, r"no output 'score': did you mean 'scores'"),
        ({"precision": {"keep_float": ["heat"]}}, r"no node 'heat': did you mean 'head'"),
        ({"input": {"y": {"shape": [1, 4]}}}, r"no input 'y': valid: x"),
        ({"calibration": {"data": "absent.npz"}}, r"no such data file: .*absent\.npz"),
        ({"model": {"path": "x" * 300}}, "can't be used"),
        ({"model": {"path": "a\0b"}}, "can't be used"),
        ({"model": {"path": "~nobody-of-that-name/m.onnx"}}, "can't be used"),
    ],
)
def test_names_in_a_recipe_that_lead_nowhere_are_told_whatever_is_built(
    bench: Bench, tables: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        bench.build("fp32", tables)


@pytest.mark.parametrize("recipe", [{"model": "m.onnx"}, {"model": []}, {}, {"model": {"path": "m.onnx"}, "input": 5}])
def test_tables_that_are_no_tables_are_a_configuration_error(recipe: Dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build(recipe)


def test_auto_goes_on_without_a_candidate_that_loads_but_cannot_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = Engine.infer

    def failing(engine: Engine, feeds: Any) -> Any:  # a made-up fault: a kernel that fails in FP16 only
        if engine.info.precision == "fp16":
            raise BackendError("no such kernel")
        return infer(engine, feeds)

    monkeypatch.setattr(Engine, "infer", failing)
    records = bench.build("auto").manifest.candidates
    assert [(r.precision, r.verdict) for r in records][1] == ("fp16", "unavailable")
    assert "no such kernel" in records[1].reason
    with pytest.raises(BackendError):
        bench.build("fp16")


def test_a_model_that_is_fp16_already_gains_nothing_under_auto(bench: Bench) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["n", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (bench.folder / "half.onnx").write_bytes(model.SerializeToString())
    tables = {"model": {"path": "half.onnx"}, "calibration": {"data": None}, "held_out": {"data": None}}
    records = bench.build("auto", tables).manifest.candidates
    assert [record.verdict for record in records] == ["chosen", "refused", "unavailable"]
    assert bench.build("fp16", tables).manifest.precision == "fp16"


SAMPLES = """
import pathlib
import numpy as np
def rows(seed, n=40):
    value = float(pathlib.Path({marker!r}).read_text())
    for row in np.random.default_rng(seed).normal(size=(n, 1, 4)):
        yield {{"x": (row * value).astype(np.float32)}}
"""


def test_data_from_a_function_is_known_without_running_it_and_verified_when_told(bench: Bench) -> None:
    marker = bench.folder / "marker"
    marker.write_text("1.0")
    (bench.folder / "samples.py").write_text(SAMPLES.format(marker=str(marker)))
    tables = {
        "calibration": {"data": "samples:rows", "arguments": {"seed": 1}},
        "held_out": {"data": "samples:rows", "arguments": {"seed": 2}},
    }
    assert not bench.build("int8", tables).is_reused
    marker.write_text("2.0")
    assert bench.build("int8", tables).is_reused
    assert not bench.build("int8", tables, verify_data=True).is_reused
    assert bench.build("int8", tables, verify_data=True).is_reused
    changed = {**tables, "calibration": {**tables["calibration"], "data_version": "2"}}
    assert not bench.build("int8", changed).is_reused


def test_nodes_can_be_kept_in_float(bench: Bench) -> None:
    kept = bench.build("int8", {"precision": {"policy": "int8", "keep_float": ["head"]}}).read_plan()
    assert len(kept) != len(bench.build("int8").read_plan())
    with pytest.raises(ConfigError, match="no node 'heat': did you mean 'head'"):
        bench.build("int8", {"precision": {"policy": "int8", "keep_float": ["heat"]}})


@pytest.mark.parametrize("content", [b"", b"\x08\x07", b"garbage" * 100])
def test_a_file_that_is_no_model_fails_with_nothing_published(bench: Bench, content: bytes) -> None:
    (bench.folder / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        bench.build("fp32")
    assert bench.store.models() == []


def test_int8_without_calibration_data_says_what_to_give(bench: Bench) -> None:
    recipe = {"model": {"path": str(bench.folder / "m.onnx"), "name": "m"}, "precision": {"policy": "int8"}}
    with pytest.raises(ConfigError, match=r"--calibration C\.npz"):
        build(recipe, bench.options)


@pytest.mark.parametrize(("policy", "data", "origin"), [("fp16", {}, "held out"), ("fp32", {"data": None}, "made up")])
def test_a_plan_has_a_golden_run_that_its_engine_repeats(
    bench: Bench, policy: str, data: Dict[str, Any], origin: str
) -> None:
    plan = bench.build(policy, {"calibration": data, "held_out": data})
    golden = read_golden(plan)
    assert golden is not None
    assert golden.origin == origin
    assert golden.inputs["x"].shape[0] == 1
    with edge_runtime.load(plan) as engine:
        assert golden.is_exact(engine.infer(golden.inputs))


def test_the_manifest_says_what_the_plan_was_made_from(bench: Bench) -> None:
    manifest = bench.build("int8").manifest
    assert set(manifest.source.files) == {"m.onnx"}
    assert manifest.data.calibration is not None
    assert manifest.data.calibration["kind"] == "npz"
    assert manifest.data.table_sha256 is not None
    assert manifest.backend.version == onnxruntime.__version__
    assert manifest.max_batch_size == 8
    assert manifest.signature.profile["x"].maximum == (8, 4)
    latency = chosen(manifest).latency
    assert latency is not None
    assert latency.against == "fp32"


def test_killing_the_builder_at_any_moment_leaves_whole_plans_or_none(bench: Bench) -> None:
    engines = bench.options.engines
    command = [sys.executable, "-c", "from edge_runtime.cli.main import main; main()", "build", "m.onnx", "--json"]
    command += ["--precision", "fp32", "--max-batch"]
    rng = random.Random(0)
    for attempt in range(8):
        child = subprocess.Popen(
            [*command, str(attempt + 1)], cwd=bench.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + rng.uniform(0.2, 0.7)
        while time.monotonic() < deadline and child.poll() is None:
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
        for version in PlanStore(engines).versions("m"):
            PlanStore(engines).open("m", version).read_plan()
    done = subprocess.run([*command, "9"], cwd=bench.folder, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["reused"] is False
    assert not list(engines.glob("m/.stage-*"))
