"""Small models for trying out a machine: made here, so that nothing has to be fetched."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.graph.opset import LOWEST_OPSET

SIDE = 32
CLASSES = 8

_FLOAT = onnx.TensorProto.FLOAT


def specimen() -> bytes:
    """`image` FP32 [n, 3, 32, 32] -> `scores` FP32 [n, 8]: convolutions, a residual, a product; weights from a seed."""
    rng = np.random.default_rng(20)
    weights = {
        "w1": rng.normal(size=(16, 3, 3, 3)) / 5,
        "w2": rng.normal(size=(16, 16, 3, 3)) / 12,
        "w3": rng.normal(size=(16, 16, 3, 3)) / 12,
        "w4": rng.normal(size=(16, CLASSES)) / 4,
        "b4": rng.normal(size=CLASSES) / 4,
    }
    nodes = [
        _node("Conv", ["image", "w1"], "a", pads=[1] * 4, strides=[2, 2]),
        _node("Relu", ["a"], "b"),
        _node("Conv", ["b", "w2"], "c", pads=[1] * 4),
        _node("Relu", ["c"], "d"),
        _node("Conv", ["d", "w3"], "e", pads=[1] * 4),
        _node("Add", ["e", "b"], "f"),
        _node("GlobalAveragePool", ["f"], "g"),
        _node("Flatten", ["g"], "h"),
        _node("Gemm", ["h", "w4", "b4"], "scores"),
    ]
    return _model(nodes, {"image": ["n", 3, SIDE, SIDE]}, {"scores": ["n", CLASSES]}, weights)


def elementwise() -> bytes:
    """`x` FP32 [n] -> `y` FP32 [n], its negative: a kernel that reads every byte once and writes it once."""
    return _model([_node("Neg", ["x"], "y")], {"x": ["n"]}, {"y": ["n"]}, {})


def _node(op_type: str, inputs: List[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op_type, inputs, [output], f"{op_type.lower()}_{output}", **attributes)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Dict[str, List[Any]],
    outputs: Dict[str, List[Any]],
    weights: Dict[str, npt.NDArray[Any]],
) -> bytes:
    values = [
        [onnx.helper.make_tensor_value_info(name, _FLOAT, shape) for name, shape in some.items()]
        for some in (inputs, outputs)
    ]
    tensors = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "specimen", values[0], values[1], tensors)
    opsets = [onnx.helper.make_opsetid("", LOWEST_OPSET)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
