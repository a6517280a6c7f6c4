from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.graph.axes import known_dims
from edge_runtime.graph.inference import tensor_types

N = helper.make_node


def dims(model, name, data_prop=True):
    return known_dims(tensor_types(model.proto, data_prop).get(name))


@pytest.mark.parametrize(
    ("target", "shape"),
    [([0, -1], ["batch", 24]), ([-1, 24], ["batch", 24]), ([-1], ["y_dim0"]), ([0, 2, 12], ["batch", 2, 12])],
)
def test_a_reshape_keeps_names_and_completes_sizes(build, target, shape):
    model = build([N("Reshape", ["x", "t"], ["y"])], {"x": ["n", 2, 3, 4]}, {"t": np.array(target)})
    assert dims(model, "y") == shape


def test_a_computed_reshape_is_followed_through_shape_arithmetic(build):
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Slice", ["s", "zero", "one"], ["n"]),
        N("Cast", ["n"], ["n32"], to=TensorProto.INT32),
        N("Concat", ["n32", "rest"], ["t32"], axis=0),
        N("Cast", ["t32"], ["t"], to=TensorProto.INT64),
        N("Reshape", ["x", "t"], ["r"]),
        N("MatMul", ["r", "w"], ["m"]),
        N("Relu", ["m"], ["y"]),
    ]
    weights = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "rest": np.array([-1], np.int32),
        "w": np.ones((6, 5), np.float32),
    }
    model = build(nodes, {"x": ["n", 2, 3]}, weights)
    assert (dims(model, "r"), dims(model, "m")) == (["batch", 6], ["batch", 5])
    assert dims(model, "r", data_prop=False) == [None, None]
    assert model.outputs[0].shape == (-1, 5)


@pytest.mark.parametrize("name", ["cls", "det", "rec", "magika", "minilm"])
def test_the_rank_of_every_tensor_of_real_models_is_known(real_model, name):
    types = tensor_types(real_model(name).proto)
    made = [output for node in real_model(name).proto.graph.node for output in node.output]
    assert [output for output in made if known_dims(types.get(output)) is None] == []


def test_inference_of_a_contradiction_leaves_types(build):
    model = build([N("Relu", ["x"], ["y"])], {"x": [2]})
    proto = model.copied_proto()
    proto.graph.value_info.add(name="y").type.tensor_type.elem_type = TensorProto.INT64
    assert tensor_types(proto)["x"].tensor_type.elem_type == TensorProto.FLOAT
