from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_runtime.errors import ConfigError
from edge_runtime.graph.freeze import with_values
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.tensors import ShapeRange

N = helper.make_node
V = helper.make_tensor_value_info
X = np.array([[1, -2, 3]], np.float32)


@pytest.fixture
def scaled(build):
    """A function that builds y = x * k for an input `k` of a data type and shape."""

    def model(element=TensorProto.FLOAT, shape=()):
        nodes = [N("Cast", ["k"], ["f"], to=1), N("Mul", ["x", "f"], ["y"])]
        return build(nodes, [V("x", 1, ["n", 3]), V("k", element, shape)], outputs=[V("y", 1, [None, 3])])

    return model


@pytest.mark.parametrize(
    ("element", "shape", "value"),
    [
        (TensorProto.FLOAT, (), 0.1),
        (TensorProto.FLOAT, (), 3),
        (TensorProto.FLOAT, (1, 3), 2.5),
        (TensorProto.FLOAT, ("k", 3), [[1, 2, 3]]),
        (TensorProto.FLOAT16, (3,), [0.1, 1, 2]),
        (TensorProto.DOUBLE, (1,), [0.1]),
        (TensorProto.INT64, (), 7.0),
        (TensorProto.INT32, ("k",), np.array([1, 2, 3], np.int64)),
        (TensorProto.UINT8, (3,), True),
        (TensorProto.BOOL, (), 1),
        (TensorProto.FLOAT, (), float("nan")),
        (TensorProto.FLOAT, (), np.float64(0.5)),
    ],
)
def test_a_frozen_input_is_a_constant(scaled, run, element, shape, value):
    model = scaled(element, shape)
    frozen = with_values(model, {"k": value})
    assert [spec.name for spec in frozen.inputs] == ["x"]
    assert [spec.name for spec in model.inputs] == ["x", "k"]
    dtype = model.inputs[1].dtype.numpy
    fixed = tuple(size for size in shape if isinstance(size, int))
    fed = np.broadcast_to(np.asarray(value, dtype), fixed) if len(fixed) == len(shape) else np.asarray(value, dtype)
    expected = run(model, {"x": X, "k": fed})["y"]
    for each in (frozen, portable(frozen)):
        np.testing.assert_array_equal(run(each, {"x": X})["y"], expected)


@pytest.mark.parametrize(
    ("element", "shape", "value", "words"),
    [
        (TensorProto.INT64, (), 1.5, "1.5 .float64., which INT64 can't hold"),
        (TensorProto.INT64, (), float("nan"), "nan"),
        (TensorProto.INT64, (), 2**63, "INT64"),
        (TensorProto.INT64, (), 2**70, "object"),
        (TensorProto.UINT8, (), 256, "256"),
        (TensorProto.UINT8, (), -1, "-1"),
        (TensorProto.UINT64, (), np.int64(-1), "-1"),
        (TensorProto.INT8, (), np.uint8(200), "200"),
        (TensorProto.BOOL, (), 2, "2"),
        (TensorProto.FLOAT, (), 2**24 + 1, "16777217"),
        (TensorProto.FLOAT, (), 1e39, r"1e\+39"),
        (TensorProto.FLOAT, (), np.float64(0.1), "0.1"),
        (TensorProto.FLOAT, (), "0.5", "expected FP32"),
        (TensorProto.FLOAT, (), None, "expected FP32"),
        (TensorProto.FLOAT, (2,), [[1, 2]], r"shape \[1, 2\]; expected FP32 \[2\]"),
        (TensorProto.FLOAT, (2,), [1, 2, 3], r"shape \[3\]; expected FP32 \[2\]"),
        (TensorProto.FLOAT, ("k", 2), 1.0, r"shape \[\]; expected FP32 \[\?, 2\]"),
        (TensorProto.FLOAT, (2**20, 2**20), 1.0, "over 2 GiB"),
        (TensorProto.FLOAT, (2, 2), [[1], [1, 2]], "expected FP32"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_the_input(scaled, element, shape, value, words):
    with pytest.raises(ConfigError, match=f"net.onnx: the value of input 'k' .*{words}"):
        with_values(scaled(element, shape), {"k": value})


def test_unknown_names_are_told_with_the_nearest(scaled):
    with pytest.raises(ConfigError, match=r"'kk', which is no input: .*'?k'?"):
        with_values(scaled(), {"kk": 1})


def test_one_input_must_be_left(scaled):
    with pytest.raises(ConfigError, match="all its inputs"):
        with_values(scaled(), {"k": 1, "x": [[1, 2, 3]]})


def test_a_frozen_switch_takes_its_if_along(build, run):
    def branch(op_type):
        return helper.make_graph([N(op_type, ["x"], ["o"])], op_type, [], [V("o", 1, None)])

    nodes = [
        N("Greater", ["threshold", "half"], ["c"]),
        N("If", ["c"], ["h"], then_branch=branch("Neg"), else_branch=branch("Abs")),
        N("Relu", ["h"], ["y"]),
    ]
    model = build(nodes, [V("x", 1, ["n", 3]), V("threshold", 1, [1])], {"half": np.float32(0.5)})
    for value, op_type in ((0.7, "Neg"), (0.3, "Abs")):
        frozen = portable(with_values(model, {"threshold": value}))
        assert Counter(node.op_type for node in frozen.proto.graph.node) == {op_type: 1, "Relu": 1}
        expected = run(model, {"x": X, "threshold": np.array([value], np.float32)})["y"]
        np.testing.assert_array_equal(run(frozen, {"x": X})["y"], expected)


def test_a_frozen_length_fixes_the_shapes_that_it_decides(build):
    nodes = [N("Unsqueeze", ["length", "axis"], ["t"]), N("Expand", ["x", "t"], ["y"])]
    inputs = [V("x", 1, ["n", 1]), V("length", TensorProto.INT64, [])]
    model = build(nodes, inputs, {"axis": [0]}, [V("y", 1, [None, None])])
    frozen = with_shapes(with_values(model, {"length": 7}), {"x": ShapeRange.fixed((2, 1))})
    assert frozen.outputs[0].shape == (2, 7)


def test_axes_of_other_inputs_stay_open(build):
    model = build([N("Mul", ["x", "k"], ["y"])], {"x": ["n", 3], "k": ["n", 3]})
    frozen = with_values(model, {"k": np.ones((1, 3), np.float32)})
    assert (frozen.inputs[0].shape, frozen.inputs[0].axes) == ((-1, 3), ("batch", ""))


def test_a_frozen_input_may_be_an_output_and_be_read_in_subgraphs(build, run):
    branch = helper.make_graph([N("Mul", ["x", "k"], ["o"])], "branch", [], [V("o", 1, None)])
    inputs = [V("x", 1, ["n", 3]), V("k", 1, [3]), V("c", TensorProto.BOOL, [])]
    model = build([N("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], inputs, outputs=["y", "k"])
    frozen = portable(with_values(model, {"k": 2}))
    answers = run(frozen, {"x": X, "c": np.array(False)})
    np.testing.assert_array_equal(answers["y"], 2 * X)
    np.testing.assert_array_equal(answers["k"], [2, 2, 2])


def test_what_it_was_read_from_stays(scaled):
    model = scaled()
    frozen = with_values(model, {"k": 1})
    assert (frozen.digest, frozen.name, frozen.files) == (model.digest, model.name, model.files)


@settings(max_examples=30, deadline=None)
@given(
    value=st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.booleans()),
    element=st.sampled_from([TensorProto.INT8, TensorProto.UINT8, TensorProto.INT64, TensorProto.UINT64, 1, 9, 11]),
)
def test_an_array_is_taken_unchanged_or_not_at_all(value, element):
    nodes = [N("Cast", ["k"], ["f"], to=1), N("Mul", ["x", "f"], ["y"])]
    graph = helper.make_graph(nodes, "g", [V("x", 1, [1]), V("k", element, [])], [V("y", 1, [1])])
    raw = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    model = model_from_bytes(raw, "net")
    dtype = model.inputs[1].dtype.numpy
    try:
        kept = with_values(model, {"k": np.asarray(value)}).proto.graph.initializer[0]
    except ConfigError:
        with np.errstate(all="ignore"):
            assert np.asarray(value).astype(dtype).item() != value
    else:
        assert helper.tensor_dtype_to_np_dtype(kept.data_type) == dtype
        assert np.frombuffer(kept.raw_data, dtype).item() == value


@pytest.mark.parametrize("element", [TensorProto.STRING, TensorProto.BFLOAT16])
def test_strings_and_bfloat16_have_no_fixed_values(scaled, element):
    with pytest.raises(ConfigError, match=r"the value of input 'k' would be B.* no value can be fixed; feed it"):
        with_values(scaled(element), {"k": 1})
