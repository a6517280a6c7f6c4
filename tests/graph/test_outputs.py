from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph.outputs import with_extra_outputs

N = helper.make_node


def test_activations_follow_the_own_outputs(build, run):
    nodes = [N("Neg", ["x"], ["a"]), N("Shape", ["a"], ["s"]), N("Relu", ["a"], ["y"])]
    model = build(nodes, {"x": ["n", 2]})
    shown = with_extra_outputs(model, ["s", "a", "y", "a", "x"])
    assert [spec.name for spec in shown.outputs] == ["y", "s", "a"]
    assert [spec.shape for spec in shown.outputs] == [(-1, 2), (2,), (-1, 2)]
    answers = run(shown, {"x": np.array([[1.0, -2.0]], np.float32)})
    np.testing.assert_array_equal(answers["a"], [[-1, 2]])
    assert [spec.name for spec in model.outputs] == ["y"]


def test_an_unknown_tensor_is_told_with_the_nearest(build):
    with pytest.raises(ModelError, match=r"'hiden'.*'hidden'"):
        with_extra_outputs(build([N("Neg", ["x"], ["hidden"]), N("Neg", ["hidden"], ["y"])], {"x": [1]}), ["hiden"])


def test_a_tensor_without_rank_is_unsupported(build):
    target = helper.make_tensor_value_info("t", TensorProto.INT64, ["k"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    nodes = [N("Expand", ["x", "t"], ["e"]), N("ReduceSum", ["e"], ["y"], keepdims=0)]
    with pytest.raises(UnsupportedModelError, match="'e'"):
        with_extra_outputs(build(nodes, [x, target], outputs=[helper.make_tensor_value_info("y", 1, [])]), ["e"])
