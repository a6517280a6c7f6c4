"""A net of which one layer can't be INT8."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def outlier_net() -> bytes:
    """x[n, 4] -> scores[n, 3]: deep layers that INT8 does well, and one that reads a channel 1000 times the others."""
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.normal(size=(4, 64)) / 2,
        "w2": rng.normal(size=(64, 64)) / 8,
        "w3": rng.normal(size=(64, 3)) / 8,
        "spread": np.array([1000, 1, 1, 1]),
        "wo": np.concatenate([np.zeros((1, 3)), rng.normal(size=(3, 3))]),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], "deep"),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("MatMul", ["d", "w3"], ["e"], "last"),
        helper.make_node("Mul", ["x", "spread"], ["f"], "scale"),
        helper.make_node("MatMul", ["f", "wo"], ["g"], "outlier"),
        helper.make_node("Add", ["e", "g"], ["scores"], "sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "outliers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
