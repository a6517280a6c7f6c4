from __future__ import annotations

import pytest
from onnx import helper

SUM = helper.make_node("Sum", ["x"], ["y"])


def axes_of(build, **shapes):
    nodes = [helper.make_node("Sum", [name], [f"{name}_out"]) for name in shapes]
    model = build(nodes, shapes, outputs=[f"{name}_out" for name in shapes])
    return [spec.axes for spec in model.inputs]


@pytest.mark.parametrize("placeholder", ["?", "", "None", -1, 0])
def test_placeholders_say_nothing_about_sizes(build, placeholder):
    assert axes_of(build, x=[placeholder, 3, placeholder, placeholder]) == [("batch", "", "x_dim2", "x_dim3")]


def test_a_name_on_unlike_axes_is_not_trusted(build):
    assert axes_of(build, x=["n", "s", "s"]) == [("batch", "s", "x_dim2")]


def test_a_name_on_like_axes_is_shared(build):
    names = axes_of(build, ids=["b", "sequence"], mask=["b", "sequence"])
    assert names == [("batch", "sequence")] * 2


def test_batch_is_shared_unless_two_names_contradict(build):
    assert axes_of(build, x=[-1, 3], z=["n", 4]) == [("batch", ""), ("batch", "")]
    assert axes_of(build, x=["images", 3], z=["boxes", 4]) == [("images", ""), ("boxes", "")]


def test_without_a_batch_on_all_inputs_names_stay(build):
    assert axes_of(build, x=["n", 3], z=[4, "n"], s=[]) == [("n", ""), ("", "z_dim1"), ()]


def test_generated_names_avoid_given_ones(build):
    assert axes_of(build, x=["x_dim1", "?"]) == [("batch", "x_dim1_")]


def test_open_outputs_have_names_of_their_own(build):
    nodes = [helper.make_node("NonZero", ["x"], ["y"]), helper.make_node("NonZero", ["x"], ["z"])]
    model = build(nodes, {"x": ["n", 3]}, outputs=["y", "z"])
    assert [spec.axes for spec in model.outputs] == [("", "y_dim1"), ("", "z_dim1")]


def test_names_of_output_axes_that_are_only_declared_are_not_trusted(build):
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    declared = helper.make_tensor_value_info("y", 1, ["n", 3, "h", "w"])
    model = build([pool], {"x": ["n", 3, "h", "w"]}, outputs=[declared])
    assert model.outputs[0].axes == ("batch", "", "y_dim2", "y_dim3")
