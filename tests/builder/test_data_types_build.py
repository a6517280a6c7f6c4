"""Builds of models with strings and BF16, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from fakes.dtypes import HAS_BFLOAT16
from onnx import TensorProto, helper, numpy_helper

import edge_runtime
from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.recipe import make_recipe
from edge_runtime.errors import ConfigError, DataError, UnsupportedModelError
from edge_runtime.plan.store import open_plan
from edge_runtime.profiler.bench import bench_engine
from edge_runtime.profiler.settings import BenchSettings
from edge_runtime.tensors import DType, bfloat16_from_float32, float32_from_bfloat16

Build = Callable[..., BuiltPlan]
STRING, FLOAT, BF16 = TensorProto.STRING, TensorProto.FLOAT, TensorProto.BFLOAT16
WEIGHT = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this onnxruntime can't be given BF16")


def encoder(source: str, target: str, **table: Any) -> Any:
    return helper.make_node("LabelEncoder", [source], [target], domain="ai.onnx.ml", **table)


NAMES = {"keys_int64s": range(4), "values_strings": ["a", "b", "c", "é"], "default_string": "?"}
NODES = {
    "words": [encoder("text", "code", keys_strings=["a", "é"], values_int64s=[1, 2], default_int64=-1)],
    "names": [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0),
        encoder("class", "name", **NAMES),
    ],
    "halves": [
        helper.make_node("Cast", ["x"], ["wide"], to=FLOAT),
        helper.make_node("MatMul", ["wide", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=BF16),
    ],
    "half out": [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=BF16),
    ],
}
VALUES = {
    "words": ([("text", STRING, ["n"])], [("code", TensorProto.INT64, ["n"])]),
    "names": ([("x", FLOAT, ["n", 4])], [("name", STRING, ["n"])]),
    "halves": ([("x", BF16, ["n", 4])], [("y", BF16, ["n", 4])]),
    "half out": ([("x", FLOAT, ["n", 4])], [("y", BF16, ["n", 4])]),
}


@pytest.fixture
def make(tmp_path: Path) -> Build:
    """Builds one of the models above, each of up to 8 rows."""
    rows = np.random.default_rng(1).normal(size=(120, 4)).astype(np.float32)
    np.savez(tmp_path / "c.npz", x=rows[:60])
    np.savez(tmp_path / "h.npz", x=rows[60:])

    def built(name: str, **tables: Any) -> BuiltPlan:
        inputs, outputs = ([helper.make_tensor_value_info(*value) for value in values] for values in VALUES[name])
        weights = [numpy_helper.from_array(WEIGHT, "w")]
        graph = helper.make_graph(NODES[name], "g", inputs, outputs, weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        content: Dict[str, Any] = {"model": {"path": "m.onnx"}, "gate": {"latency_budget_s": 0.05}}
        content.update(tables)
        recipe = make_recipe(content, "m", tmp_path, environ={})
        return build(recipe, BuildOptions(tmp_path / "engines", tmp_path / "calib_cache"))

    return built


def answer(plan: BuiltPlan, **feeds: np.ndarray) -> Dict[str, np.ndarray]:
    with edge_runtime.load(plan) as engine:
        return engine.infer(feeds)


def test_a_model_of_strings_becomes_a_plan_that_runs_and_is_measured(make) -> None:
    plan = make("words")
    manifest = open_plan(plan.folder).manifest
    assert (manifest.signature.inputs[0].dtype, manifest.precision) == (DType.BYTES, "fp32")
    text = np.array(["é".encode(), b"z"], object)
    assert answer(plan, text=text)["code"].tolist() == [2, -1]
    report = bench_engine(plan, BenchSettings(n=20, warm_up=1, layers=True, layer_runs=3))
    assert report.inputs == {"text": {"dtype": "BYTES", "shape": [1]}}
    assert [layer.kind for layer in report.layers.profile.layers] == ["LabelEncoder"]


LENIENT = {"latency_budget_s": 0.05, "max_drop": 1}
DATA: Dict[str, Any] = {"calibration": {"data": "c.npz"}, "held_out": {"data": "h.npz"}}


def test_names_of_classes_are_scored_by_how_many_are_equal(make) -> None:
    manifest = make("names", **DATA, metric={"name": "accuracy"}, gate=LENIENT).manifest
    scores = {one.name: one.metric.value for one in manifest.candidates if one.metric}
    assert (scores["fp32"], 0.8 < scores["int8 max"] <= 1) == (1, True)


def test_names_of_classes_have_no_cosine(make) -> None:
    with pytest.raises(DataError, match="metric accuracy, which compares strings"):
        make("names", **DATA)


@needs_bfloat16
def test_a_model_of_bfloat16_becomes_a_plan(make) -> None:
    plan, x = make("halves"), np.eye(4, dtype=np.float32)[:2]
    found = float32_from_bfloat16(answer(plan, x=bfloat16_from_float32(x))["y"])
    np.testing.assert_array_equal(found, float32_from_bfloat16(bfloat16_from_float32(WEIGHT[:2])))


@needs_bfloat16
def test_bfloat16_outputs_are_scored_as_floats(make) -> None:
    manifest = make("half out", **DATA, precision={"policy": "int8"}, gate=LENIENT).manifest
    (chosen,) = [one for one in manifest.candidates if one.verdict == "chosen"]
    assert 0.99 < chosen.metric.value < 1


REFUSED: List[Any] = [
    ("words", {"calibration": {"data": "c.npz"}}, ConfigError, "no samples can be given to input 'text' of BYTES"),
    ("halves", {"held_out": {"data": "h.npz"}}, ConfigError, "no samples can be given to input 'x' of BF16"),
    ("names", {"model": {"path": "m.onnx", "split": ["class"]}}, UnsupportedModelError, "'name' holds strings"),
    ("words", {"input": {"text": {"value": 1}}}, ConfigError, "all its inputs have fixed values"),
    ("words", {"precision": {"policy": "fp16"}}, UnsupportedModelError, "nothing in it can be fp16"),
]


@pytest.mark.parametrize(("name", "tables", "kind", "text"), REFUSED)
def test_what_makes_no_sense_is_refused(make, name, tables, kind, text) -> None:
    with pytest.raises(kind, match=text):
        make(name, **tables)


@pytest.mark.tensorrt
@pytest.mark.parametrize("name", ["words", pytest.param("halves", marks=needs_bfloat16)])
def test_tensorrt_is_not_built_with_them(make, name) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(UnsupportedModelError, match=r"holds (BYTES|BF16), which backend tensorrt_rtx isn't built with"):
        make(name, backend={"name": "tensorrt_rtx"})
