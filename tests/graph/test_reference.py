from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edge_runtime.graph.reference import evaluated, is_evaluable, nbytes_of, output_types, sizes_of, type_of

N = helper.make_node
NAN = np.array([np.nan, 1, -np.inf], np.float32)


def f(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def i(*values):
    return np.array(values, np.int64)


def tensors(values):
    return {name: numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()}


def computed(node, values, opset=13):
    known = tensors(values)
    assert is_evaluable(node, known)
    types = output_types(node, opset, {name: type_of(tensor) for name, tensor in known.items()}, known)
    assert None not in [nbytes_of(types.get(name)) for name in node.output]
    return evaluated(node, opset, known, types)


def on_onnxruntime(node, values, opset=13):
    types = {name: type_of(tensor) for name, tensor in tensors(values).items()}
    outputs = output_types(node, opset, types, tensors(values))
    graph = onnx.GraphProto(name="g", node=[node])
    graph.input.extend(onnx.ValueInfoProto(name=name, type=kind) for name, kind in types.items())
    graph.output.extend(onnx.ValueInfoProto(name=name, type=outputs[name]) for name in node.output)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(value) for name, value in values.items()})


X, Y = f(3, 4), f(4, 3).T.copy()
WHOLE, OTHER = np.arange(-6, 6).reshape(3, 4), np.array([[-2, 3, 1, -5]])
B = X > 0
UNARY = "Abs Ceil Cos Exp Floor Identity IsInf IsNaN Neg Reciprocal Relu Round Sigmoid Sign Sin Softmax Tanh Transpose"
BINARY = "Add Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mul Sub Sum"
REDUCTIONS = "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"
CASES = [
    *((op, {}, 13, [X]) for op in UNARY.split()),
    *((op, {}, 13, [X, Y]) for op in BINARY.split()),
    *((op, {}, 13, [WHOLE, OTHER]) for op in "Add Div Equal Greater Less Max Min Mod Mul Sub".split()),
    *((op, {}, 13, [B, B[::-1].copy()]) for op in "And Or Xor Equal".split()),
    *((op, {}, 18, [WHOLE, OTHER]) for op in "BitwiseAnd BitwiseOr BitwiseXor".split()),
    *((op, {"axes": [-1], "keepdims": 0}, 13, [X]) for op in REDUCTIONS.split()),
    *((op, {}, 18, [X, i(0)]) for op in REDUCTIONS.split()),
    *((op, {"axis": 1}, 13, [X]) for op in ("ArgMax", "ArgMin")),
    *((op, {}, 13, [NAN]) for op in "Relu IsNaN Neg Floor".split()),
    ("Cast", {"to": 7}, 13, [np.array([0, 1.7, -2.7], np.float32)]),
    ("Cast", {"to": 10}, 13, [X]),
    ("Cast", {"to": 1}, 13, [X.astype(np.float16)]),
    ("Cast", {"to": 9}, 13, [i(0, 1, 5)]),
    ("Cast", {"to": 2}, 13, [i(0, 1, 300)]),
    ("CastLike", {}, 15, [X, i(1)]),
    ("Clip", {}, 13, [X, np.float32(-0.5), np.float32(0.5)]),
    ("Clip", {}, 13, [X, np.float32(1), np.float32(-1)]),
    ("Concat", {"axis": -1}, 13, [X, Y]),
    ("Concat", {"axis": 0}, 13, [i(), i(2, 3)]),
    ("ConstantOfShape", {"value": numpy_helper.from_array(i(7))}, 13, [i(2, 3)]),
    ("ConstantOfShape", {}, 13, [i(0, 2)]),
    ("CumSum", {"reverse": 1}, 13, [X, np.int64(1)]),
    ("CumSum", {"exclusive": 1}, 13, [WHOLE, np.int64(0)]),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, 13, [f(1, 8, 2, 3)]),
    ("Expand", {}, 13, [X[:1], i(3, 1)]),
    ("EyeLike", {"k": 1, "dtype": 1}, 13, [WHOLE]),
    ("Flatten", {"axis": -1}, 13, [f(2, 3, 4)]),
    ("Gather", {"axis": 1}, 13, [X, i(-1, 0)]),
    ("Gather", {}, 13, [i(4, 5, 6), np.array(1, np.int32)]),
    ("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, 13, [X, f(5, 4), f(5)]),
    ("Log", {}, 13, [np.abs(X)]),
    ("MatMul", {}, 13, [f(2, 3, 4), f(4)]),
    ("Mod", {"fmod": 1}, 13, [i(-7, 7, -8), i(2, -2, 3)]),
    ("Not", {}, 13, [B]),
    ("Pad", {}, 13, [X, i(1, 0, 0, 2), np.float32(3)]),
    ("Pad", {"mode": "reflect"}, 13, [X, i(1, 1, 1, 1)]),
    ("Pow", {}, 13, [X, i(2)]),
    ("Range", {}, 13, [np.int64(5), np.int64(0), np.int64(-2)]),
    ("Range", {}, 13, [np.float32(0), np.float32(1), np.float32(0.3)]),
    ("ReduceSum", {}, 13, [WHOLE, i(0)]),
    ("ReduceSum", {"noop_with_empty_axes": 1}, 13, [X, i()]),
    ("Reshape", {}, 13, [X, i(0, -1)]),
    ("Round", {}, 13, [np.array([0.5, 1.5, -0.5, 2.5], np.float32)]),
    ("Slice", {}, 13, [X, i(-1), i(-100), i(1), i(-2)]),
    ("Slice", {}, 13, [i(1, 2, 3, 4), i(1), i(-(2**62)), i(0), i(-1)]),
    ("SpaceToDepth", {"blocksize": 2}, 13, [f(1, 2, 4, 6)]),
    ("Split", {"axis": 1}, 13, [X, i(1, 3)]),
    ("Sqrt", {}, 13, [np.abs(X)]),
    ("Squeeze", {}, 13, [f(1, 3, 1), i(-1)]),
    ("Tile", {}, 13, [X, i(2, 3)]),
    ("Trilu", {"upper": 0}, 14, [X, np.int64(-1)]),
    ("Unsqueeze", {}, 13, [X, i(0, -1)]),
    ("Where", {}, 13, [B, X, Y[:1]]),
    ("Where", {}, 13, [B, X.astype(np.float16), Y.astype(np.float16)]),
]


@pytest.mark.parametrize(("op_type", "settings", "opset", "inputs"), CASES)
def test_onnx_computes_what_onnxruntime_does(op_type, settings, opset, inputs):
    values = {f"i{index}": value for index, value in enumerate(inputs)}
    node = N(op_type, list(values), ["y", "z"] if op_type == "Split" else ["y"], **settings)
    for got, expected in zip(computed(node, values, opset), on_onnxruntime(node, values, opset)):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("node", "values"),
    [
        (N("Div", ["a", "b"], ["y"]), {"a": i(1), "b": i(0)}),
        (N("Log", ["a"], ["y"]), {"a": np.float32(-1)}),
        (N("Cast", ["a"], ["y"], to=7), {"a": NAN}),
        (N("Cast", ["a"], ["y"], to=10), {"a": np.float32(1e6)}),
        (N("Gather", ["a", "b"], ["y"]), {"a": X, "b": i(3)}),
        (N("Sub", ["a", "a"], ["y"]), {"a": NAN}),
    ],
)
def test_what_ends_in_a_warning_or_an_error_has_no_value(node, values):
    assert computed(node, values) is None


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (N("RandomNormalLike", ["a"], ["y"]), X),
        (N("Bernoulli", ["a"], ["y"]), np.abs(X) % 1),
        (N("QuantizeLinear", ["a", "a"], ["y"]), np.float32(1)),
        (N("DequantizeLinear", ["a", "s"], ["y"]), np.int8(1)),
        (N("Identity", ["a"], ["y"]), np.array(["text"])),
        (N("Exp", ["a"], ["y"]), np.float16(1)),
        (N("Add", ["a", "unknown"], ["y"]), X),
    ],
)
def test_the_random_the_quantised_text_and_sums_in_fp16_are_not_computed(node, value):
    tensor = helper.make_tensor("a", 8, [1], [b"text"]) if value.dtype.kind == "U" else numpy_helper.from_array(value)
    assert not is_evaluable(node, {"a": tensor, "s": numpy_helper.from_array(np.float32(1))})


def test_a_huge_result_is_told_without_making_it():
    known = tensors({"a": np.float32(1), "s": i(2**20, 2**20, 2**20)})
    types = output_types(N("Expand", ["a", "s"], ["y"]), 13, {name: type_of(known[name]) for name in known}, known)
    assert nbytes_of(types["y"]) == 2**62


def image(*shape):
    return helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (N("MaxPool", ["x"], ["y"], kernel_shape=[2], strides=[2]), [1, 1, 2]),
        (N("MaxPool", ["x"], ["y"], kernel_shape=[2], strides=[2], ceil_mode=1), None),
        (N("ConvTranspose", ["x", "w"], ["y"], strides=[2]), [1, 1, 11]),
        (N("ConvTranspose", ["x", "w"], ["y"], strides=[2], auto_pad="SAME_LOWER"), None),
        (N("Resize", ["x", "", "twice"], ["y"]), [1, 1, 10]),
        (N("Resize", ["x", "", "third"], ["y"]), None),
        (N("Resize", ["x", "", "", "sizes"], ["y"]), [1, 1, 7]),
        (N("Conv", ["x", "flat"], ["y"]), None),
        (N("Relu", ["unknown"], ["y"]), None),
    ],
)
def test_sizes_that_backends_may_count_differently_are_open(node, expected):
    known = tensors(
        {
            "w": np.ones((1, 1, 3), np.float32),
            "flat": np.ones((1, 1), np.float32),
            "twice": np.array([1, 1, 2], np.float32),
            "third": np.array([1, 1, 1 / 3], np.float32),
            "sizes": i(1, 1, 7),
        }
    )
    types = {"x": image(1, 1, 5), **{name: type_of(tensor) for name, tensor in known.items()}}
    assert sizes_of(output_types(node, 13, types, known).get("y")) == expected
