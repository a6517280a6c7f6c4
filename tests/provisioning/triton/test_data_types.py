"""Models of text and BF16, all made up: what of a configuration holds for them, and that their recipes build."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnx
import pytest
from fakes.dtypes import HAS_BFLOAT16
from onnx import TensorProto, helper, numpy_helper

import edge_runtime
from edge_runtime.builder.builder import BuildOptions
from edge_runtime.builder.recipe import load_recipe
from edge_runtime.provisioning.triton.importing import (
    COMPLETE,
    INCOMPLETE,
    REFUSED,
    ImportedModel,
    ImportOptions,
    import_repository,
)
from edge_runtime.tensors import bfloat16_from_float32, float32_from_bfloat16

FLOAT, BF16, STRING = TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.STRING
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this onnxruntime can't be given BF16")
node = helper.make_node
FLAGS = node("LabelEncoder", ["text"], ["f"], domain="ai.onnx.ml", keys_strings=["é"], values_floats=[1.0])
MODELS = {
    "echo": ([node("Identity", ["text"], ["y"])], {"text": STRING}, {"y": STRING}),
    "flags": ([FLAGS, node("MatMul", ["f", "w"], ["y"])], {"text": STRING}, {"y": FLOAT}),
    "halves": (
        [node("Cast", ["x"], ["f"], to=FLOAT), node("MatMul", ["f", "w"], ["p"]), node("Cast", ["p"], ["y"], to=BF16)],
        {"x": BF16},
        {"y": BF16},
    ),
    "half out": ([node("MatMul", ["x", "w"], ["p"]), node("Cast", ["p"], ["y"], to=BF16)], {"x": FLOAT}, {"y": BF16}),
    "both": (
        [node("Cast", ["x"], ["y"], to=FLOAT), node("Identity", ["text"], ["z"])],
        {"text": STRING, "x": BF16},
        {"y": FLOAT, "z": STRING},
    ),
}
ECHO = """platform: "onnxruntime_onnx" max_batch_size: 8
input { name: "text" data_type: TYPE_STRING dims: 4 } output { name: "y" data_type: TYPE_STRING dims: 4 }"""
HALVES = """backend: "onnxruntime" max_batch_size: 8
input { name: "x" data_type: TYPE_BF16 dims: 4 } output { name: "y" data_type: TYPE_BF16 dims: 4 }"""
TABLE = "TRT-8603-EntropyCalibration2\nf: 3c010204\np: 3d010204\ny: 3d010204\n"
CPU_ONLY = "runs on ONNX Runtime's CPU only"
Import = Callable[..., ImportedModel]


def serialized(name: str) -> bytes:
    """One of the models above; every tensor is [n, 4], and the weights are twice the unit matrix."""
    nodes, *sides = MODELS[name]
    inputs, outputs = ([helper.make_tensor_value_info(key, kind, ["n", 4]) for key, kind in s.items()] for s in sides)
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(2 * np.eye(4, dtype="f"), "w")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def accelerated(mode: str, *parameters: str) -> str:
    lines = "".join(f"parameters {{ {one} }} " for one in (f'key: "precision_mode" value: "{mode}"', *parameters))
    return f'optimization {{ execution_accelerators {{ gpu_execution_accelerator {{ name: "tensorrt" {lines}}} }} }}'


WITH_TABLE = accelerated(
    "INT8",
    'key: "int8_calibration_table_name" value: "t.cache"',
    'key: "int8_use_native_calibration_table" value: "1"',
)


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Puts a model into a repository, beside other files of its version, and imports it as `m`."""

    def make(name: str, config: str, **files: str) -> ImportedModel:
        version = tmp_path / "models/m/1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(serialized(name))
        (version.parent / "config.pbtxt").write_text(config)
        for file, text in files.items():
            (version / file.replace("_", ".")).write_text(text)
        (model,) = import_repository(tmp_path / "models", (), ImportOptions(tmp_path / "engines")).models
        return model

    return make


def answer(folder: Path, **feeds: Any) -> Any:
    """What the plan that is built by the recipe answers, and its precision."""
    built = edge_runtime.build(folder / "engines/m.toml", BuildOptions(folder / "engines", folder / "calib"))
    with edge_runtime.load(built) as engine:
        return engine.infer(feeds)["y"], built.manifest.precision


def fates(model: ImportedModel) -> dict[str, tuple[str, str]]:
    return {one.path: (one.outcome, one.text) for one in model.fields}


def test_a_model_of_text_is_imported_builds_and_answers(imported: Import, tmp_path: Path) -> None:
    model = imported("echo", f"{ECHO} dynamic_batching {{ }}")
    assert (model.outcome, model.reasons) == (COMPLETE, ())
    assert fates(model)["input[0]"] == ("honoured", "'text', BYTES [-1, 4] as in the ONNX")
    assert fates(model)["instance_group"] == ("lost", f"BYTES ('text') {CPU_ONLY}: [backend] name = \"onnxruntime\"")
    assert "# instance_group: BYTES" in model.text
    text = np.array([[b"a", "é".encode(), b"", b"d"]], object)
    assert answer(tmp_path, text=text)[0].tolist() == text.tolist()


@needs_bfloat16
def test_a_model_of_bfloat16_is_imported_builds_and_answers(imported: Import, tmp_path: Path) -> None:
    model = imported("halves", HALVES)
    assert (model.outcome, model.reasons) == (COMPLETE, ())
    assert fates(model)["output[0]"][1] == "'y', BF16 (from ONNX Runtime 1.20 on) as in the ONNX"
    x = np.array([[1, -2, 0.5, 4.5]], np.float32)
    found, precision = answer(tmp_path, x=bfloat16_from_float32(x))
    assert (float32_from_bfloat16(found).tolist(), precision) == ((2 * x).tolist(), "fp32")


def test_types_that_the_configuration_leaves_out_are_those_of_the_onnx(imported: Import, tmp_path: Path) -> None:
    assert imported("half out", "").outcome == COMPLETE
    assert load_recipe(tmp_path / "engines/m.toml", environ={}).tables.backend.name == "onnxruntime"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("instance_group { kind: KIND_CPU }", {"[0].kind": "honoured"}),
        ("instance_group { kind: KIND_GPU gpus: [ 1 ] }", {"[0].kind": "lost", "[0].gpus": "not needed"}),
        ("instance_group { count: 1 } instance_group { kind: KIND_CPU }", {"[0].kind": "lost", "[1].kind": "honoured"}),
        (
            "instance_group { secondary_devices { device_id: 1 } }",
            {"[0].kind": "lost", "[0].secondary_devices[0]": "lost"},
        ),
    ],
)
def test_instances_on_a_gpu_are_lost(imported: Import, groups: str, expected: dict[str, str], tmp_path: Path) -> None:
    model = imported("echo", f"{ECHO} {groups}")
    wanted = {f"instance_group{path}": outcome for path, outcome in expected.items()}
    outcomes = {path: outcome for path, (outcome, _) in fates(model).items()}
    assert (model.outcome, wanted.items() <= outcomes.items(), "instance_group" in outcomes) == (COMPLETE, True, False)
    backend = load_recipe(tmp_path / "engines/m.toml", environ={}).tables.backend
    assert backend.model_dump(exclude_unset=True) == {"name": "onnxruntime"}


def test_an_accelerator_is_lost_with_all_that_it_says(imported: Import, tmp_path: Path) -> None:
    more = ('key: "max_workspace_size_bytes" value: "9"', 'key: "trt_dla_enable" value: "1"')
    model = imported("echo", f"{ECHO} {accelerated('FP16', *more)}")
    at = "optimization.execution_accelerators.gpu_execution_accelerator[0]"
    assert fates(model)[at] == ("lost", f"BYTES ('text') {CPU_ONLY}")
    assert fates(model)[f'{at}.parameters["precision_mode"]'][0] == "lost"
    tables = load_recipe(tmp_path / "engines/m.toml", environ={}).tables
    assert (tables.precision.policy, tables.backend.workspace_mib, tables.backend.device) == ("fp32", None, None)


def test_int8_by_a_table_builds(imported: Import, tmp_path: Path) -> None:
    assert imported("flags", f"max_batch_size: 8 {WITH_TABLE}", t_cache=TABLE).outcome == COMPLETE
    text = np.array([["é".encode(), b"?", b"", b"?"]], object)
    found, precision = answer(tmp_path, text=text)
    assert (np.round(found).tolist(), precision) == ([[2, 0, 0, 0]], "int8")


def test_int8_of_a_model_that_can_be_given_samples_lacks_them(imported: Import) -> None:
    assert imported("half out", accelerated("INT8")).outcome == INCOMPLETE


@pytest.mark.parametrize(
    ("name", "config", "problem"),
    [
        ("both", "", r"tensors of BYTES \('text'\) and BF16 \('x'\), not both of which run"),
        ("halves", f"{HALVES} {accelerated('INT8')}", r"no samples can be given to BF16 \('x'\)"),
        ("halves", HALVES.replace("onnxruntime", "tensorrt"), r"a TensorRT plan, and none is built with BF16 \('x'\)"),
        ("echo", ECHO.replace("TYPE_STRING", "TYPE_FP32", 1), "'text' is FP32 in the configuration and BYTES in the"),
    ],
)
def test_what_can_not_be_served_is_refused_with_one_reason(
    imported: Import, name: str, config: str, problem: str
) -> None:
    model = imported(name, config, model_plan="")
    assert (model.outcome, len(model.reasons), model.action) == (REFUSED, 1, "none")
    assert re.search(problem, model.reasons[0]), model.reasons


def test_an_input_of_text_that_was_optional_can_be_no_constant(imported: Import) -> None:
    model = imported("echo", ECHO.replace("dims: 4 }", "dims: 4 optional: true }", 1))
    assert fates(model)["input[0].optional"] == ("lost", "every request must send it")
