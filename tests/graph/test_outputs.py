from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.graph.portable import portable
from edge_runtime.tensors import DYNAMIC

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


@pytest.mark.parametrize("name", ["cls", "det", "rec", "magika", "minilm"])
def test_every_tensor_of_a_real_network_can_be_shown_in_its_shape(real_model, real_feeds, run, name):
    model, feeds = portable(real_model(name)), real_feeds(name)
    shown = with_extra_outputs(model, [tensor for node in model.proto.graph.node for tensor in node.output if tensor])
    answers = run(shown, feeds)
    for spec in shown.outputs:
        got = answers[spec.name].shape
        assert len(got) == len(spec.shape)
        assert all(size in (DYNAMIC, actual) for size, actual in zip(spec.shape, got))


def test_a_weight_can_be_shown_too(build, run):
    shown = with_extra_outputs(build([N("Add", ["x", "w"], ["y"])], {"x": [2]}, {"w": np.ones(2, np.float32)}), ["w"])
    np.testing.assert_array_equal(run(shown, {"x": np.zeros(2, np.float32)})["w"], [1, 1])
