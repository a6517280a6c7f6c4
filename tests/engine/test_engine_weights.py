from __future__ import annotations

from typing import Callable, Iterator, List

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime import onnxruntime_api
from edge_runtime.engine import weights as engine_weights
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_files
from edge_runtime.engine.weights import read_weights
from edge_runtime.errors import BackendError, PlanCorruptError
from edge_runtime.graph import weights
from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.model import OnnxModel, model_from_bytes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq, quantizable
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensors import ShapeRange, Signature

N = helper.make_node
X = np.random.default_rng(1).normal(size=(2, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> OnnxModel:
    """Convolutions and a product, y f32[batch, 48], with 400 kB of weights, one of them read by a subgraph."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (32, 3, 3, 3), "w2": (64, 32, 3, 3), "w3": (64, 48), "b2": (64,)}
    tensors = [numpy_helper.from_array(rng.normal(0, 0.1, size).astype(np.float32), k) for k, size in shapes.items()]
    branches = [
        helper.make_graph([N(kind, ["g", "w3"], [kind])], kind, [], [helper.make_tensor_value_info(kind, 1, None)])
        for kind in ("MatMul",) * 2
    ]
    nodes = [
        N("Conv", ["x", "w1"], ["c1"]),
        N("Relu", ["c1"], ["r1"]),
        N("Conv", ["r1", "w2", "b2"], ["c2"]),
        N("GlobalAveragePool", ["c2"], ["p"]),
        N("Flatten", ["p"], ["g"]),
        N("MatMul", ["g", "w3"], ["m"]),
        N("ReduceMax", ["m"], ["top"], keepdims=0),
        N("Cast", ["top"], ["flag"], to=TensorProto.BOOL),
        N("If", ["flag"], ["i"], then_branch=branches[0], else_branch=branches[1]),
        N("Add", ["m", "i"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 48])
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return portable(model_from_bytes(proto.SerializeToString(), "net.onnx"))


def quantised(model: OnnxModel) -> OnnxModel:
    return fold_weights(insert_qdq(model, dict.fromkeys(quantizable(model), 0.05)))


def engine(model: OnnxModel, files: dict, **changes: object) -> Engine:
    shapes = {"x": ShapeRange((1, 3, 16, 16), (1, 3, 16, 16), (2, 3, 16, 16))}
    signature = Signature(model.inputs, model.outputs, shapes)
    info = EngineInfo("net", 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
    return engine_from_files(PlanFiles({**files, **changes}), info, signature, EngineOptions(threads_per_run=1))


@pytest.fixture
def apart(net: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> dict:
    return files_apart(net, monkeypatch)


def files_apart(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(weights, "LIMIT_NBYTES", 20_000)
    files = model.to_files()
    monkeypatch.undo()
    assert len(files) == 2
    return files


@pytest.mark.parametrize("change", [lambda model: model, to_fp16, quantised], ids=["fp32", "fp16", "int8"])
def test_weights_apart_give_the_answers_of_one_file(
    net: OnnxModel, change: Callable[[OnnxModel], OnnxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = change(net)
    with engine(model, model.to_files()) as whole, engine(model, files_apart(model, monkeypatch)) as split:
        for n in (1, 2, 1):
            np.testing.assert_array_equal(split.infer({"x": X[:n]})["y"], whole.infer({"x": X[:n]})["y"])


@pytest.mark.parametrize("element", sorted(weights.DTYPES))
def test_weights_of_every_type_reach_the_library(element: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(6000).astype(weights.DTYPES[element].numpy)
    nodes = [N("Gather", ["w", "i"], ["r"]), N("Cast", ["r"], ["y"], to=TensorProto.DOUBLE)]
    given, made = (helper.make_tensor_value_info(*item) for item in (("i", 7, [3]), ("y", 11, [3])))
    graph = helper.make_graph(nodes, "net", [given], [made], [numpy_helper.from_array(values, "w")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = model_from_bytes(proto.SerializeToString(), "net.onnx")
    monkeypatch.setattr(weights, "LIMIT_NBYTES", 5000)
    plan = PlanFiles(model.to_files())
    session = onnxruntime_api.load_session(
        plan.model, onnxruntime_api.SessionOptions(), "net", read_weights(plan, "net")
    )
    picked = np.array([0, 5999, 77])
    np.testing.assert_array_equal(session.run(None, {"i": picked})[0], values[picked].astype(np.float64))


def test_the_library_gets_nothing_before_the_last_chunk(
    net: OnnxModel, apart: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tampered:
        def __iter__(self) -> Iterator[bytes]:
            yield from apart[weights.WEIGHTS_FILE]
            raise PlanCorruptError("the digest differs")

    given: List[bytes] = []
    monkeypatch.setattr("edge_runtime.engine.onnxruntime.load_session", lambda model, *_: given.append(model))
    with pytest.raises(PlanCorruptError, match="digest differs"):
        engine(net, apart, **{weights.WEIGHTS_FILE: Tampered()})
    assert not given


@pytest.mark.parametrize("content", [[], [b"x" * 100], [bytes(10**6)]])
def test_weights_of_another_size_are_refused(net: OnnxModel, apart: dict, content: list) -> None:
    with pytest.raises(PlanCorruptError, match="bytes of weights, got"):
        engine(net, apart, **{weights.WEIGHTS_FILE: content})


def test_an_onnx_that_refers_to_other_files_is_refused(net: OnnxModel, apart: dict) -> None:
    small = apart["model.onnx"].replace(weights.WEIGHTS_FILE.encode(), b"../other.onnx_d")
    with pytest.raises(PlanCorruptError, match="inside the model's folder"):
        engine(net, apart, **{"model.onnx": small})


def test_weights_that_no_memory_holds_are_refused(net: OnnxModel, apart: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(engine_weights.np, "empty", full)
    with pytest.raises(BackendError, match="hasn't free"):
        read_weights(PlanFiles(apart), "net")
