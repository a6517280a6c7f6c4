"""Builds of models in parts on fake boards: a plan each, what they are asked for, and that the chain runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import onnx
import onnxruntime
import pytest
from fakes.board_machine import NANO, ORIN, XAVIER, use_machine
from fakes.tensorrt import plan_model, plan_record
from onnx import TensorProto, helper, numpy_helper

import edge_runtime
from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.recipe import make_recipe
from edge_runtime.builder.tensorrt.attempts import Attempts
from edge_runtime.builder.tensorrt.build_plan import OutOfMemoryError
from edge_runtime.builder.tensorrt.ladder import Rung
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.profiling import profile_layers
from edge_runtime.errors import PlanCorruptError

pytestmark = pytest.mark.slow  # each builds several parts in processes of their own

Build = Callable[..., BuiltPlan]


def residual_net() -> bytes:
    """x f32[batch, 4] -> a -> r -> h, h + a -> s -> scores f32[batch, 3]."""
    rng = np.random.default_rng(3)
    weights = {name: rng.normal(size=shape) for name, shape in {"w": (4, 8), "v": (8, 8), "u": (8, 3)}.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["h"], name="hidden"),
        helper.make_node("Add", ["h", "a"], ["s"], name="residual"),
        helper.make_node("MatMul", ["s", "u"], ["scores"], name="head"),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in (("x", 4), ("scores", 3))]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture
def split_build(tmp_path: Path) -> Build:
    """Builds the net, cut after its first Relu."""
    (tmp_path / "m.onnx").write_bytes(residual_net())
    rows = np.random.default_rng(1).normal(size=(128, 4)).astype(np.float32)
    np.savez(tmp_path / "c.npz", x=rows[:64])
    np.savez(tmp_path / "h.npz", x=rows[64:])

    def built(policy: str, split: List[str] | None = None, **tables: Any) -> BuiltPlan:
        content: Dict[str, Any] = {
            "model": {"path": "m.onnx", "split": ["r"] if split is None else split},
            "calibration": {"data": "c.npz"},
            "held_out": {"data": "h.npz"},
            "precision": {"policy": policy},
            "gate": {"latency_budget_s": 0.05, "max_drop": 0.1},
        }
        for name, table in tables.items():
            content[name] = {**content.get(name, {}), **table}
        options = BuildOptions(tmp_path / "engines", tmp_path / "calib_cache")
        return build(make_recipe(content, "m", tmp_path, environ={}), options)

    return built


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    def made(surface: str = "10.3", device: DeviceInfo = ORIN, **settings: Any) -> Any:
        return use_machine(monkeypatch, tmp_path / "board", surface, device, **settings)

    return made


def part_bytes(plan: BuiltPlan) -> List[bytes]:
    return [path.read_bytes() for path in plan.plan_paths]


@pytest.mark.parametrize(
    ("surface", "device", "policy", "form"),
    [
        ("8.2", NANO, "fp16", "weak"),
        ("8.4", XAVIER, "int8", "implicit"),
        ("10.3", ORIN, "int8", "strong"),
        ("11.4", ORIN, "fp32", "strong"),
    ],
)
def test_each_part_is_a_plan_and_the_chain_answers(
    split_build: Build, board: Callable[..., Any], surface: str, device: DeviceInfo, policy: str, form: str
) -> None:
    machine = board(surface, device)
    plan = split_build(policy)
    manifest = plan.manifest
    assert manifest.target is not None
    assert manifest.chain is not None
    assert (manifest.target.form, manifest.precision, manifest.schema_version) == (form, policy, 2)
    assert [path.name for path in plan.plan_paths] == ["model.plan", "model.1.plan"]
    assert [[record.name for record in part.outputs] for part in manifest.chain.parts] == [["a", "r"], ["scores"]]
    x = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(residual_net(), providers=["CPUExecutionProvider"])
    with edge_runtime.load(plan) as engine:
        assert engine.segment_count == 2
        for n in (3, 1, 3, 3):
            expected = session.run(None, {"x": x[:n]})[0]
            np.testing.assert_allclose(engine.infer({"x": x[:n]})["scores"], expected, atol=0.06 * abs(expected).max())
    machine.cuda.check_leaks()


def test_int8_is_in_every_part_where_the_whole_has_it(split_build: Build, board: Callable[..., Any]) -> None:
    board("10.3")
    first, second = (onnx.load_from_string(plan_model(part)) for part in part_bytes(split_build("int8")))
    assert [node.op_type for node in first.graph.node].count("QuantizeLinear") == 2
    assert [node.op_type for node in second.graph.node].count("QuantizeLinear") == 4
    assert {value.name for value in second.graph.input} == {"a", "r"}  # in float, and quantised where they are read


def test_implicit_int8_gives_each_part_the_scales_of_all(split_build: Build, board: Callable[..., Any]) -> None:
    board("8.4", XAVIER)
    records = [plan_record(part) for part in part_bytes(split_build("int8"))]
    caches = [record["calibration"]["cache"] for record in records]
    assert caches[0] == caches[1]
    assert {"x", "a", "r", "scores"} <= records[0]["calibration"]["scales"].keys()


def test_the_parts_share_a_timing_cache_and_are_tried_out(split_build: Build, board: Callable[..., Any]) -> None:
    board("10.3")
    plan = split_build("fp32")
    root = plan.folder.parents[1]
    assert len(list((root / ".timing").iterdir())) == 1
    marks = {path.name.split("-")[0] for path in (root / ".verified").iterdir()}
    assert {record.sha256 for record in plan.manifest.plans} <= marks


def test_what_the_split_costs_is_measured_on_the_device(split_build: Build, board: Callable[..., Any]) -> None:
    board("10.3")
    manifest = split_build("fp32").manifest
    assert manifest.chain is not None
    assert manifest.chain.latency is not None
    assert manifest.chain.latency.ratio > 0
    assert any("split into 2 plans at r: latency" in note for note in manifest.notes)


def test_a_damaged_second_part_is_refused_before_tensorrt_sees_a_byte(
    split_build: Build, board: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = board("10.3")
    plan = split_build("fp32")
    data = plan.plan_paths[1].read_bytes()
    plan.plan_paths[1].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    monkeypatch.setattr(machine.tensorrt, "Runtime", lambda logger: pytest.fail("loaded"))
    with pytest.raises(PlanCorruptError, match=r"model\.1\.plan: expected"):
        edge_runtime.load(plan)
    plan.plan_paths[1].write_bytes(b"\x08onnx")
    with pytest.raises(PlanCorruptError, match=r"model\.1\.plan: expected a TensorRT plan, got what looks like ONNX"):
        edge_runtime.load(plan)


def test_a_part_that_is_short_of_memory_marks_the_whole(
    split_build: Build, board: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    board("10.3")
    once = Attempts._once

    def short(self: Attempts, request: Any, rung: Rung) -> Any:
        if "part 2" in self.what and not rung.is_reduced:
            raise OutOfMemoryError("the build was stopped")
        return once(self, request, rung)

    monkeypatch.setattr(Attempts, "_once", short)
    manifest = split_build("fp32").manifest
    assert manifest.target is not None
    assert manifest.target.is_reduced
    assert any("fp32, part 2 of 2 with tensorrt" in note for note in manifest.notes)


def test_layers_are_those_of_all_parts_traced_to_their_nodes(split_build: Build, board: Callable[..., Any]) -> None:
    board("10.3")
    plan = split_build("fp32")
    profile = profile_layers(plan, {"x": np.ones((1, 4), np.float32)}, ProfileOptions(runs=3, warm_up=1, threads=1))
    nodes = [node for layer in profile.layers for node in layer.nodes]
    assert {"first", "relu", "hidden", "residual", "head"} <= set(nodes)
    assert len(profile.whole_us) == 3
    assert "split into 2 plans" in profile.notes[0]
