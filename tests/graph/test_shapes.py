from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_runtime.errors import ConfigError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.tensors import ShapeRange

RELU = helper.make_node("Relu", ["x"], ["y"])


def limits(*shapes):
    return ShapeRange(shapes[0], shapes[len(shapes) // 2], shapes[-1])


def test_axes_of_one_size_become_fixed_and_outputs_follow(build):
    model = build([RELU], {"x": ["n", 3, "?", "?"]})
    narrow = with_shapes(model, {"x": limits((1, 3, 48, 192), (4, 3, 48, 192), (8, 3, 48, 192))})
    assert (narrow.inputs[0].shape, narrow.inputs[0].axes) == ((-1, 3, 48, 192), ("batch", "", "", ""))
    assert (narrow.outputs[0].shape, narrow.outputs[0].axes) == ((-1, 3, 48, 192), ("batch", "", "", ""))
    assert model.inputs[0].shape == (-1, 3, -1, -1)
    assert (narrow.digest, narrow.name) == (model.digest, model.name)


@pytest.mark.parametrize(
    ("given_ranges", "words"),
    [
        ({}, ["'x'", "no shapes"]),
        ({"x": ShapeRange.fixed((1, 3)), "X1": ShapeRange.fixed((1,))}, ["'X1'", "valid: x"]),
        ({"x": ShapeRange.fixed((1, 3, 1))}, ["?x3", "1x3x1"]),
        ({"x": ShapeRange.fixed((1, 4))}, ["?x3", "1x4"]),
        ({"x": limits((1, 1), (1, 3))}, ["?x3", "1x1..1x3..1x3"]),
    ],
)
def test_ranges_that_do_not_fit_are_told(build, given_ranges, words):
    with pytest.raises(ConfigError) as caught:
        with_shapes(build([RELU], {"x": ["n", 3]}), given_ranges)
    for word in words:
        assert word in str(caught.value)


def test_shared_names_are_split_where_ranges_differ(build):
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in "abc"]
    model = build(nodes, {name: ["n", 2] for name in "abc"}, outputs=["a_out", "b_out", "c_out"])
    wide, narrow = limits((1, 2), (8, 2)), limits((1, 2), (4, 2))
    names = [spec.axes[0] for spec in with_shapes(model, {"a": wide, "b": narrow, "c": narrow}).inputs]
    assert names == ["batch", "b_dim0", "b_dim0"]
    fixed = with_shapes(model, {"a": ShapeRange.fixed((2, 2)), "b": narrow, "c": narrow})
    assert [spec.axes[0] for spec in fixed.inputs] == ["", "batch", "batch"]


def test_given_axis_names_replace_the_models_own(build):
    model = build([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ["n", "m"], "b": ["p", "q"]})
    ranges = {name: limits((1, 2), (2, 2), (4, 8)) for name in ("a", "b")}
    shaped = with_shapes(model, ranges, {"a": ["batch", "length"], "b": ["batch", "length"]})
    assert [spec.axes for spec in shaped.inputs] == [("batch", "length")] * 2
    assert [spec.axes for spec in with_shapes(model, ranges).inputs] == [("n", "m"), ("p", "q")]


def test_given_axes_of_one_name_must_have_one_range(build):
    model = build([helper.make_node("Relu", ["a"], ["y"])], {"a": ["n", "m"]})
    with pytest.raises(ConfigError, match=r"axis 'k' has the sizes 2\.\.8 on input 'a', but 1\.\.2\.\.4 on 'a'"):
        with_shapes(model, {"a": limits((1, 2), (2, 2), (4, 8))}, {"a": ["k", "k"]})


def test_shapes_computed_from_inputs_are_followed(build):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "rest": np.array([6])}
    model = build(nodes, {"x": ["n", 2, 3]}, weights)
    assert model.outputs[0].shape == (-1, 6)
    assert with_shapes(model, {"x": ShapeRange.fixed((4, 2, 3))}).outputs[0].shape == (4, 6)


def test_declared_sizes_stay_where_nothing_can_be_inferred(build):
    nodes = [helper.make_node("Expand", ["x", "target"], ["e"]), helper.make_node("Reshape", ["e", "shape"], ["y"])]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1]),
        helper.make_tensor_value_info("target", TensorProto.INT64, [2]),
        helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
    ]
    model = build(nodes, inputs, outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 7])])
    ranges = {"x": ShapeRange.fixed((1, 1)), "target": ShapeRange.fixed((2,)), "shape": ShapeRange.fixed((2,))}
    assert with_shapes(model, ranges).outputs[0].shape == (-1, 7)


def test_scalars_have_a_range_of_rank_zero(build):
    model = build([RELU], {"x": []})
    assert with_shapes(model, {"x": ShapeRange.fixed(())}).outputs[0].shape == ()


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_any_range_gives_its_own_spec_shape(sizes):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["?"] * len(sizes))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    proto = helper.make_model(helper.make_graph([RELU], "net", [value], [output]), ir_version=8)
    proto.opset_import[0].version = 13
    low, high = tuple(low for low, _ in sizes), tuple(low + more for low, more in sizes)
    narrow = with_shapes(model_from_bytes(proto.SerializeToString(), "net"), {"x": ShapeRange(low, low, high)})
    assert narrow.inputs[0].shape == narrow.outputs[0].shape == ShapeRange(low, low, high).spec_shape


@pytest.mark.parametrize(("name", "shape"), [("cls", (8, 2)), ("det", (8, 1, 64, 192)), ("rec", (8, 24, 6625))])
def test_real_models_get_fixed_outputs_from_fixed_inputs(real_model, name, shape):
    size = (8, 3, 64, 192) if name == "det" else (8, 3, 48, 192)
    narrow = with_shapes(real_model(name), {"x": ShapeRange.fixed(size)})
    for got, expected in zip(narrow.outputs[0].shape, shape):
        assert got in (expected, -1)


@pytest.mark.parametrize("name", ["cls", "det", "rec", "magika", "minilm"])
def test_real_models_narrowed_answer_as_before(real_path, real_model, real_feeds, run, name):
    feeds = real_feeds(name)
    narrow = with_shapes(real_model(name), {key: ShapeRange.fixed(value.shape) for key, value in feeds.items()})
    expected = run(real_path(name).read_bytes(), feeds)
    for spec in narrow.outputs:
        answer = run(narrow, feeds)[spec.name]
        assert all(size in (-1, got) for size, got in zip(spec.shape, answer.shape))
        np.testing.assert_allclose(answer, expected[spec.name], atol=1e-5)
