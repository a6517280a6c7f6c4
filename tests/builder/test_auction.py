"""INT8 by a whole build: the auction, mixed precision, imported tables, boards without INT8, frozen inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edge_runtime
from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.recipe import CALIBRATIONS, make_recipe
from edge_runtime.calibration.calibrator import ALGORITHMS
from edge_runtime.calibration.histogram_file import StoredHistograms, read_histograms, write_histograms
from edge_runtime.errors import CalibrationError, ConfigError, DataError, GateError
from edge_runtime.graph import weights
from edge_runtime.plan.manifest import CandidateRecord, Manifest
from edge_runtime.tensors import DType
from tests.fakes.outlier_net import outlier_net


class Workshop:
    """A folder with the net and its data, and a way to build in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "m.onnx").write_bytes(outlier_net())
        rows = np.random.default_rng(1).normal(size=(400, 4)).astype(np.float32)
        np.savez(folder / "c.npz", x=rows[:200])
        np.savez(folder / "h.npz", x=rows[200:])
        self.options = BuildOptions(folder / "engines", folder / "calib_cache")

    def build(self, policy: str = "int8", tables: Dict[str, Any] | None = None, explain: bool = False) -> BuiltPlan:
        content: Dict[str, Any] = {
            "model": {"path": "m.onnx"},
            "calibration": {"data": "c.npz"},
            "held_out": {"data": "h.npz"},
            "precision": {"policy": policy},
            "gate": {"latency_budget_s": 0.1},
        }
        for name, table in (tables or {}).items():
            content[name] = {**content.get(name, {}), **table}
        options = BuildOptions(self.options.engines, self.options.calib_cache, explain=explain)
        return build(make_recipe(content, "m", self.folder, environ={}), options)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def chosen(manifest: Manifest) -> CandidateRecord:
    (record,) = [record for record in manifest.candidates if record.verdict == "chosen"]
    return record


def test_the_recipe_knows_the_calibrators_that_there_are() -> None:
    assert ("auto", *ALGORITHMS, "tensorrt") == CALIBRATIONS


def test_only_the_layer_that_hurts_stays_in_float(workshop: Workshop) -> None:
    manifest = workshop.build().manifest
    mixed = chosen(manifest)
    assert (mixed.name, mixed.precision, mixed.kept_float) == ("int8 mixed", "int8", ["outlier"])
    assert mixed.int8_macs == pytest.approx(1 - 12 / (256 + 4096 + 192 + 12))
    refused = [record for record in manifest.candidates if record.verdict == "refused"]
    assert [record.name for record in refused] == ["int8 entropy", "int8 percentile", "int8 mse", "int8 max"]
    assert all("only 1 % allowed" in record.reason for record in refused)
    assert manifest.sensitivity[0].nodes == ["outlier"]
    plan = onnx.load_from_string(workshop.build().read_plan())
    makers = {name: node.op_type for node in plan.graph.node for name in node.output}
    products = {node.name: makers.get(node.input[0]) for node in plan.graph.node if node.op_type == "MatMul"}
    assert products.pop("outlier") == "Mul"
    assert products == dict.fromkeys(("first", "deep", "last"), "DequantizeLinear")


def test_the_mixed_plan_is_no_int8_plan_if_too_little_of_it_is_int8(workshop: Workshop) -> None:
    with pytest.raises(GateError, match=r"int8 max: .*only 1 % allowed") as refused:
        workshop.build(tables={"precision": {"min_int8": 0.999}})
    assert [record.name for record in refused.value.candidates][-1] == "int8 max"
    assert refused.value.sensitivity[0].nodes == ["outlier"]


def test_a_mixed_candidate_that_fails_too_is_on_record(workshop: Workshop) -> None:
    with pytest.raises(GateError) as refused:
        workshop.build(tables={"gate": {"max_drop": 1e-12}})
    last = refused.value.candidates[-1]
    assert (last.name, last.verdict, "outlier" in last.kept_float) == ("int8 mixed", "refused", True)


def huge_net(folder: Path) -> None:
    """x[n, 4] -> y[n, 4] by way of an activation of about 100,000, which FP16 can't hold."""
    up, down = np.full(4, 1e5, np.float32), np.full(4, 1e-5, np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "up"], ["a"], "raise"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Mul", ["b", "down"], ["y"], "lower"),
        helper.make_node("MatMul", ["y", "w"], ["z"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(v, n) for v, n in ((up, "up"), (down, "down"), (np.eye(4, dtype=np.float32), "w"))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "m.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize("calibration", ["c.npz", None])
def test_what_would_overflow_in_fp16_stays_float32_by_either_set_of_samples(
    workshop: Workshop, calibration: str | None
) -> None:
    huge_net(workshop.folder)
    plan = onnx.load_from_string(workshop.build("fp16", {"calibration": {"data": calibration}}).read_plan())
    halves = {tensor.name for tensor in plan.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    assert len(halves) == 1
    assert "w" in next(iter(halves))


def test_without_samples_it_is_said_that_overflow_is_not_known(workshop: Workshop) -> None:
    huge_net(workshop.folder)
    notes = workshop.build("fp16", {"calibration": {"data": None}, "held_out": {"data": None}}).manifest.notes
    assert any("what overflows in FP16 isn't known" in note for note in notes)
    assert any("the accuracy of fp16 wasn't measured" in note for note in notes)


def test_one_algorithm_can_be_asked_for(workshop: Workshop) -> None:
    tables = {"calibration": {"algorithm": "mse"}, "precision": {"keep_float": ["outlier"]}}
    record = chosen(workshop.build(tables=tables).manifest)
    assert (record.name, record.calibrator, record.kept_float) == ("int8 mse", "mse", ["outlier"])


def test_explaining_a_plan_that_is_there_measures_without_building_it_again(workshop: Workshop) -> None:
    tables = {"precision": {"keep_float": ["outlier"]}}
    assert workshop.build(tables=tables).sensitivity == ()
    explained = workshop.build(tables=tables, explain=True)
    assert explained.is_reused
    assert {record.group for record in explained.sensitivity} == {"first", "deep", "last"}
    assert workshop.build("fp32", explain=True).sensitivity[0].group == "outlier"


def test_what_cannot_be_explained_is_published_all_the_same(workshop: Workshop) -> None:
    built = workshop.build("fp32", {"calibration": {"data": None}}, explain=True)
    assert (built.manifest.precision, built.sensitivity) == ("fp32", ())


def test_a_table_of_another_tool_is_used_by_name_and_is_part_of_the_key(workshop: Workshop) -> None:
    table = workshop.folder / "trt.cache"
    table.write_text("TRT-8205-EntropyCalibration2\nx: 3d000000\nb: 3d000000\n(Unnamed Layer* 3): 3c010203\n")
    tables = {"calibration": {"table": "trt.cache", "data": None}, "gate": {"max_drop": 0.5}}
    record = chosen(workshop.build(tables=tables).manifest)
    assert (record.name, record.calibrator) == ("int8 imported", "imported")
    assert record.int8_macs == pytest.approx((256 + 4096) / (256 + 4096 + 192 + 12))
    assert workshop.build(tables=tables).is_reused
    table.write_text("TRT-8205-EntropyCalibration2\nx: 3d100000\n")
    assert not workshop.build(tables=tables).is_reused
    table.write_text("TRT-8205-EntropyCalibration2\nother: 3d100000\n")
    with pytest.raises(CalibrationError, match="give a cache of this model"):
        workshop.build(tables=tables)
    with pytest.raises(ConfigError, match=r"absent\.cache: can't be read"):
        workshop.build(tables={"calibration": {"table": "absent.cache"}})


def test_a_wrong_set_of_calibration_data_stops_int8(workshop: Workshop) -> None:
    rows = np.load(workshop.folder / "c.npz")["x"]
    np.savez(workshop.folder / "c.npz", x=rows * 255)
    with pytest.raises(CalibrationError, match="normalis"):
        workshop.build()


def test_fp16_plans_can_take_and_give_fp16(workshop: Workshop) -> None:
    plan = workshop.build("fp16", {"precision": {"io": "fp16"}, "metric": {"name": "cosine"}})
    assert {tensor.dtype for tensor in (*plan.manifest.inputs, *plan.manifest.outputs)} == {DType.FP16}
    with edge_runtime.load(plan) as engine:
        assert engine.infer({"x": np.ones((2, 4), np.float16)})["scores"].dtype == np.float16


def test_what_isnt_int8_can_be_fp16(workshop: Workshop) -> None:
    plan = workshop.build(tables={"precision": {"rest": "fp16", "keep_float": ["outlier"]}})
    graph = onnx.load_from_string(plan.read_plan())
    assert graph.opset_import[0].version >= 19
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.graph.initializer)


STATEFUL = """
import numpy as np
def steps(seed, count=40):
    rng = np.random.default_rng(seed)
    state = np.zeros((1, 4), np.float32)
    for _ in range(count):
        outputs = yield {"x": rng.normal(size=(1, 4)).astype(np.float32), "h": state}
        state = outputs["h_out"]
        assert np.abs(state).sum() > 0
"""


def recurrent_net() -> bytes:
    rng = np.random.default_rng(0)
    weights = {"wx": rng.normal(size=(4, 4)), "wh": rng.normal(size=(4, 4)) / 2}
    nodes = [
        helper.make_node("MatMul", ["x", "wx"], ["a"], "input"),
        helper.make_node("MatMul", ["h", "wh"], ["b"], "recurrent"),
        helper.make_node("Add", ["a", "b"], ["c"], "sum"),
        helper.make_node("Tanh", ["c"], ["h_out"], "tanh"),
    ]
    shapes = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "h", "h_out")}
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "step", [shapes["x"], shapes["h"]], [shapes["h_out"]], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_a_stateful_model_is_calibrated_on_the_states_that_it_reaches(workshop: Workshop) -> None:
    (workshop.folder / "m.onnx").write_bytes(recurrent_net())
    (workshop.folder / "steps.py").write_text(STATEFUL)
    tables = {
        "calibration": {"data": "steps:steps", "arguments": {"seed": 1}, "stateful": True},
        "held_out": {"data": "steps:steps", "arguments": {"seed": 2}, "stateful": True},
    }
    record = chosen(workshop.build(tables=tables).manifest)
    assert record.metric is not None
    assert (record.precision, record.metric.n) == ("int8", 40)
    tables["calibration"]["stateful"] = False
    with pytest.raises(DataError, match="steps:steps"):
        workshop.build(tables=tables)


@pytest.mark.parametrize("policy", ["fp32", "fp16", "int8"])
def test_a_model_too_large_for_one_message_goes_all_the_way(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr(weights, "LIMIT_NBYTES", 12_000)
    plan = workshop.build(policy, {"metric": {"name": "cosine"}}, explain=True)
    record = plan.manifest.plan
    if policy == "fp32":  # the others fit
        assert record.weights is not None
        assert record.total_nbytes == sum(path.stat().st_size for path in plan.folder.glob("model.onnx*"))
    assert plan.sensitivity[0].nodes == ["outlier"]
    with edge_runtime.load(plan) as engine:
        assert engine.infer({"x": np.ones((2, 4), np.float32)})["scores"].shape == (2, 3)


def test_an_input_with_a_value_is_no_input_of_the_plan(workshop: Workshop) -> None:
    model = onnx.load_from_string(outlier_net())
    model.graph.input.append(helper.make_tensor_value_info("gain", TensorProto.FLOAT, []))
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(helper.make_node("Mul", ["raw", "gain"], ["scores"], "amplify"))
    (workshop.folder / "m.onnx").write_bytes(model.SerializeToString())
    tables = {"input": {"gain": {"value": 2.0}}, "precision": {"keep_float": ["outlier"]}}
    plan = workshop.build(tables=tables)
    assert [tensor.name for tensor in plan.manifest.inputs] == ["x"]
    with pytest.raises(ConfigError, match="gian"):
        workshop.build(tables={"input": {"gian": {"value": 2.0}}})


def test_samples_that_lie_on_both_sides_of_an_automatic_split_are_refused(workshop: Workshop) -> None:
    rows = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    np.savez(workshop.folder / "c.npz", x=np.repeat(rows, 8, axis=0))
    with pytest.raises(DataError, match="held-out rows are in the calibration data too"):
        workshop.build(tables={"held_out": {"data": None}})


def test_fp16_products_of_transposed_tensors_run(workshop: Workshop) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], "transpose", perm=[1, 0, 2]),
            helper.make_node("MatMul", ["t", "w"], ["y"], "head"),
        ],
        "time first",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, "batch", 3])],
        [numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (workshop.folder / "m.onnx").write_bytes(model.SerializeToString())
    np.savez(workshop.folder / "c.npz", x=np.random.default_rng(1).normal(size=(64, 6, 4)).astype(np.float32))
    manifest = workshop.build("fp16", {"held_out": {"data": None}, "metric": {"name": "cosine"}}).manifest
    assert manifest.precision == "fp16"


CHANGING = """
import random
import numpy as np
def rows(count=40):
    for _ in range(count):
        yield {"x": np.random.default_rng(random.getrandbits(64)).normal(size=(1, 4)).astype(np.float32)}
"""


def test_data_that_is_other_data_each_time_is_refused(workshop: Workshop) -> None:
    (workshop.folder / "changing.py").write_text(CHANGING)
    for section in ("calibration", "held_out"):
        with pytest.raises(DataError, match="yields other samples each time"):
            workshop.build(tables={section: {"data": "changing:rows"}})


@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "raise GeneratorExit", "raise KeyError('x')"])
def test_a_metric_that_ends_the_process_fails_the_build(workshop: Workshop, ending: str) -> None:
    (workshop.folder / "ends.py").write_text(f"def score(outputs, samples):\n    {ending}\n")
    with pytest.raises(DataError, match="ends:score"):
        workshop.build("fp16", {"metric": {"name": "ends:score"}})


def test_histograms_that_lack_a_tensor_are_not_trusted(workshop: Workshop) -> None:
    tables = {"precision": {"keep_float": ["outlier"]}}
    plan = workshop.build(tables=tables).read_plan()
    (path,) = (workshop.folder / "calib_cache").glob("m/*/histograms.npz")
    stored = read_histograms(path)
    fewer = {name: histogram for name, histogram in stored.histograms.items() if name != "b"}
    write_histograms(path, StoredHistograms(fewer, stored.samples, stored.key))
    assert workshop.build(tables={**tables, "gate": {"max_drop": 0.02}}).read_plan() == plan
