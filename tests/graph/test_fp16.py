from __future__ import annotations

import numpy as np
import onnx.checker
import onnx.shape_inference
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq

N = helper.make_node
LIMITS = {"cls": 0.005, "det": 0.005, "rec": 0.05, "magika": 0.005, "minilm": 0.02}


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def checked_types(model):
    """The element type of each tensor, after ONNX's strictest checks."""
    onnx.checker.check_model(model.proto, full_check=True)
    graph = onnx.shape_inference.infer_shapes(model.proto, check_type=True, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return {**types, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


def halved(build, run, nodes, inputs, weights=None, feeds=None, **kwargs):
    """The model in FP16 and its types, after checking that its answers are close."""
    model = build(nodes, inputs, weights, **kwargs)
    half = to_fp16(model)
    feeds = feeds or {name: normal(*shape) for name, shape in inputs.items()}
    answers = run(half, feeds)
    for name, expected in run(model, feeds).items():
        assert answers[name].dtype == expected.dtype
        np.testing.assert_allclose(answers[name], expected, rtol=0.01, atol=0.01)
    return half, checked_types(half)


def operators(model):
    return [node.op_type for node in model.proto.graph.node]


def input_type(half, types, op_type, position=0):
    node = next(node for node in half.proto.graph.node if node.op_type == op_type)
    return types[node.input[position]]


@pytest.mark.parametrize("name", LIMITS)
def test_real_models_stay_near_float_and_halve(real_model, real_feeds, run, name):
    model, feeds = portable(real_model(name)), real_feeds(name)
    half = to_fp16(model)
    checked_types(half)
    assert (half.inputs, [spec.dtype for spec in half.outputs]) == (
        model.inputs,
        [spec.dtype for spec in model.outputs],
    )
    assert len(half.serialize()) < 0.6 * len(model.serialize())
    answers = run(half, feeds)
    for output, expected in run(model, feeds).items():
        np.testing.assert_allclose(answers[output], expected, atol=LIMITS[name] * max(1, np.abs(expected).max()))


def test_weights_and_activations_are_fp16_and_edges_are_casts(build, run):
    nodes = [N("MatMul", ["x", "w"], ["a"]), N("Relu", ["a"], ["y"])]
    half, types = halved(build, run, nodes, {"x": (2, 3)}, {"w": normal(3, 4)})
    assert operators(half) == ["Cast", "MatMul", "Relu", "Cast"]
    assert (types["x"], types["a"], types["w_fp16"], types["y"]) == (1, 10, 10, 1)
    assert "w" not in types


def test_kept_nodes_stay_float32(build):
    nodes = [N("MatMul", ["x", "w"], ["a"], "first"), N("MatMul", ["a", "w"], ["y"], "second")]
    half = to_fp16(build(nodes, {"x": (2, 3)}, {"w": normal(3, 3)}), frozenset({"second"}))
    types = checked_types(half)
    assert (types["a"], types["a_fp32"], types["w"], types["w_fp16"]) == (10, 1, 1, 10)


def test_an_inner_output_is_given_out_in_float32_and_read_in_fp16(build, run):
    nodes = [N("MatMul", ["x", "w"], ["y"]), N("Relu", ["y"], ["z"])]
    half, types = halved(build, run, nodes, {"x": (2, 3)}, {"w": normal(3, 4)}, outputs=["y", "z"])
    assert operators(half) == ["Cast", "MatMul", "Cast", "Relu", "Cast"]
    assert (types["y"], types["y_fp16"]) == (1, 10)


def test_resize_takes_its_scales_in_float32(build, run):
    nodes = [N("Relu", ["x"], ["r"]), N("Resize", ["r", "", "s"], ["y"], mode="linear")]
    half, types = halved(build, run, nodes, {"x": (1, 2, 4, 4)}, {"s": np.array([1, 1, 2, 2], np.float32)})
    assert (input_type(half, types, "Resize"), input_type(half, types, "Resize", 2)) == (10, 1)


def test_shape_arithmetic_in_float_stays_float32(build, run):
    nodes = [
        N("Relu", ["x"], ["r"]),
        N("Shape", ["r"], ["s"]),
        N("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        N("Mul", ["f", "k"], ["m"]),
        N("Floor", ["m"], ["t"]),
        N("Cast", ["t"], ["i"], to=TensorProto.INT64),
        N("Reshape", ["r", "i"], ["y"]),
    ]
    half, types = halved(build, run, nodes, {"x": (4099, 2)}, {"k": np.array([1.0, 1.0], np.float32)})
    assert (types["m"], types["t"], input_type(half, types, "Reshape")) == (1, 1, 10)


def test_a_mask_of_minus_infinity_stays_finite(build, run):
    lowest = np.float32(-3.4e38)
    nodes = [
        N("Sub", ["one", "m"], ["i"]),
        N("Mul", ["i", "low"], ["bias"]),
        N("Add", ["x", "bias"], ["a"]),
        N("Softmax", ["a"], ["y"]),
    ]
    feeds = {"x": normal(2, 3), "m": np.array([[1, 1, 0], [0, 0, 0]], np.float32)}
    model = build(nodes, {"x": (2, 3), "m": (2, 3)}, {"one": np.float32(1), "low": lowest})
    answer = run(to_fp16(model), feeds)["y"]
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer[0], run(model, feeds)["y"][0], atol=1e-3)


def test_infinite_constants_stay_infinite(build):
    half = to_fp16(build([N("Max", ["x", "k"], ["y"])], {"x": (2,)}, {"k": np.array([-np.inf, 1], np.float32)}))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in half.proto.graph.initializer}
    np.testing.assert_array_equal(stored["k_fp16"], np.array([-np.inf, 1], np.float16))


@pytest.mark.parametrize(("constant", "element"), [(1e5, 1), (1e-7, 1), (1e-5, 1), (2.0, 10), (0.0, 10), (60000.0, 10)])
def test_constants_outside_fp16_keep_their_node_float32(build, constant, element):
    half = to_fp16(
        build([N("Relu", ["x"], ["r"]), N("Mul", ["r", "k"], ["y"])], {"x": (2,)}, {"k": np.float32(constant)})
    )
    assert input_type(half, checked_types(half), "Mul") == element


def test_a_decomposed_layer_norm_survives_large_values(build, run):
    nodes = [
        N("MatMul", ["x", "w"], ["h"]),
        N("ReduceMean", ["h"], ["mean"], axes=[1]),
        N("Sub", ["h", "mean"], ["d"]),
        N("Mul", ["d", "d"], ["q"]),
        N("ReduceMean", ["q"], ["v"], axes=[1]),
        N("Add", ["v", "eps"], ["e"]),
        N("Sqrt", ["e"], ["s"]),
        N("Div", ["d", "s"], ["y"]),
    ]
    weights = {"w": 500 * normal(8, 8), "eps": np.float32(1e-12)}
    _, types = halved(build, run, nodes, {"x": (2, 8)}, weights)
    assert [types[name] for name in ("h", "d", "q", "v", "e", "s")] == [10, 10, 1, 1, 1, 1]


NODES = {
    "layer-norm": (17, [N("LayerNormalization", ["x", "g", "b"], ["y"])], {"g": normal(6), "b": normal(6)}),
    "conv": (
        13,
        [N("Unsqueeze", ["x", "zero"], ["u"]), N("Conv", ["u", "w"], ["y"])],
        {"zero": np.array([0]), "w": normal(2, 4, 3)},
    ),
    "batch-norm": (15, [N("BatchNormalization", ["x", *"pqrs"], ["y"])], dict.fromkeys("pqrs", np.ones(6, np.float32))),
    "lstm": (
        14,
        [N("Unsqueeze", ["x", "zero"], ["u"]), N("LSTM", ["u", "w", "r"], ["y"], hidden_size=2)],
        {"zero": np.array([1]), "w": normal(1, 8, 6), "r": normal(1, 8, 2)},
    ),
    "clip": (13, [N("Clip", ["x", "", "six"], ["y"])], {"six": np.float32(6)}),
    "where": (13, [N("Greater", ["x", "k"], ["c"]), N("Where", ["c", "x", "k"], ["y"])], {"k": np.float32(0)}),
    "top-k": (13, [N("TopK", ["x", "k"], ["y", "i"])], {"k": np.array([2])}),
    "arg-max": (13, [N("ArgMax", ["x"], ["y"])], {}),
    "cum-sum": (14, [N("Relu", ["x"], ["r"]), N("CumSum", ["r", "axis"], ["y"])], {"axis": np.array(0)}),
    "range": (
        13,
        [N("ReduceMax", ["x"], ["m"], keepdims=0), N("Mul", ["m", "k"], ["z"]), N("Range", ["z", "ten", "one"], ["y"])],
        {"k": np.float32(0), "ten": np.float32(10), "one": np.float32(1)},
    ),
    "constant-of-shape": (
        13,
        [N("Shape", ["x"], ["s"]), N("ConstantOfShape", ["s"], ["z"]), N("Add", ["z", "x"], ["y"])],
        {},
    ),
    "random-like": (
        13,
        [N("RandomNormalLike", ["x"], ["n"]), N("Mul", ["n", "k"], ["z"]), N("Add", ["z", "x"], ["y"])],
        {"k": np.float32(0)},
    ),
    "dropout": (13, [N("Dropout", ["x", "ratio"], ["y"])], {"ratio": np.float32(0.5)}),
    "pow": (15, [N("Abs", ["x"], ["a"]), N("Pow", ["a", "k"], ["y"])], {"k": np.float32(1.5)}),
    "pad": (13, [N("Pad", ["x", "pads", "k"], ["y"])], {"pads": np.array([0, 1, 0, 1]), "k": np.float32(3)}),
    "gru": (
        14,
        [N("Unsqueeze", ["x", "zero"], ["u"]), N("GRU", ["u", "w", "r"], ["y"], hidden_size=2)],
        {"zero": np.array([1]), "w": normal(1, 6, 6), "r": normal(1, 6, 2)},
    ),
    "constant-node": (
        13,
        [N("Constant", [], ["k"], value=numpy_helper.from_array(normal(6, 3))), N("MatMul", ["x", "k"], ["y"])],
        {},
    ),
    "sequence": (
        13,
        [
            N("SplitToSequence", ["x"], ["parts"], axis=0),
            N("ConcatFromSequence", ["parts"], ["z"], axis=0),
            N("Relu", ["z"], ["y"]),
        ],
        {},
    ),
    "one-hot": (
        13,
        [N("ArgMax", ["x"], ["i"]), N("OneHot", ["i", "six", "values"], ["h"]), N("Mul", ["h", "k"], ["y"])],
        {"six": np.array(6), "values": np.array([0, 1], np.float32), "k": np.float32(2)},
    ),
    "cast-double": (13, [N("Cast", ["x"], ["d"], to=11), N("Cast", ["d"], ["f"], to=1), N("Relu", ["f"], ["y"])], {}),
}


@pytest.mark.parametrize("name", NODES)
def test_operators_with_types_of_their_own_load_and_agree(build, run, name):
    opset, nodes, weights = NODES[name]
    halved(build, run, nodes, {"x": (4, 6)}, weights, opset=opset)


@pytest.mark.parametrize("flag", [True, False])
def test_subgraphs_stay_float32_and_read_float32(build, run, flag):
    def branch(name, op_type):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])
        return helper.make_graph([N(op_type, ["r", "w"], [name])], name, [], [value])

    nodes = [
        N("Relu", ["x"], ["r"]),
        N("If", ["c"], ["f"], then_branch=branch("t", "Add"), else_branch=branch("e", "Sub")),
        N("MatMul", ["r", "v"], ["m"]),
        N("Add", ["f", "m"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, [2, 3]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    feeds = {"x": normal(2, 3), "c": np.array(flag)}
    _half, types = halved(build, run, nodes, inputs, {"w": normal(3), "v": normal(3, 3)}, feeds)
    assert (types["r"], types["r_fp16"], types["f"], types["m"]) == (1, 10, 1, 10)


def test_integer_and_fp16_models_are_unchanged(build):
    add = [N("Add", ["x", "x"], ["y"])]
    for element in (TensorProto.INT64, TensorProto.FLOAT16):
        model = build(add, [helper.make_tensor_value_info("x", element, [2])])
        assert to_fp16(model).serialize() == model.serialize()


def test_a_quantised_model_keeps_its_scales_in_float32_before_opset_19(build, run, max_scales):
    nodes = [N("MatMul", ["x", "w"], ["a"]), N("Sigmoid", ["a"], ["y"])]
    for opset, element in ((13, 1), (19, 10)):
        model = build(nodes, {"x": (2, 3)}, {"w": normal(3, 4)}, opset=opset, ir_version=9)
        quantised = insert_qdq(model, max_scales(model, {"x": normal(2, 3)}))
        half = to_fp16(quantised)
        types = checked_types(half)
        assert types["x_dequantized"] == element
        feeds = {"x": normal(2, 3)}
        np.testing.assert_allclose(run(half, feeds)["y"], run(quantised, feeds)["y"], atol=0.01)
