"""Which tensors can be calibrated, and when a model counts as another."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.graph.activations import content_digest, float_activations, with_activations
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.onnxruntime_api import SessionOptions, load_session


def test_every_float_input_and_computed_float_tensor_is_an_activation(classifier):
    assert float_activations(model_from_bytes(classifier, "m")) == ("x", "h", "r", "scores")


def test_integers_and_constants_are_none():
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2, np.float32))),
        helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["f"], ["s"]),
        helper.make_node("Add", ["f", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    assert float_activations(model_from_bytes(data, "m")) == ("f", "y")


@pytest.mark.parametrize("part", ["weight", "node", "input"])
def test_another_weight_node_or_shape_makes_another_digest(classifier, part):
    model = model_from_bytes(classifier, "m")
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    if part == "weight":
        proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[::-1]
    elif part == "node":
        proto.graph.node[1].op_type = "Sigmoid"
    else:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    assert content_digest(model.with_proto(proto)) != content_digest(model)
    assert content_digest(model.with_proto(model.copied_proto())) == content_digest(model)


def test_activations_are_given_out_and_large_weights_lie_apart():
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(64, 64)).astype(np.float32), "b": rng.normal(size=64).astype(np.float32)}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    data, apart = with_activations(model_from_bytes(whole, "m"), ["h"])
    assert len(data) < 2048 < len(whole)
    assert list(apart) == ["w"]
    x = rng.normal(size=(3, 64)).astype(np.float32)
    (h,) = load_session(data, SessionOptions(), "m", apart).run(["h"], {"x": x})
    np.testing.assert_allclose(h, x @ weights["w"], rtol=1e-4, atol=1e-4)
