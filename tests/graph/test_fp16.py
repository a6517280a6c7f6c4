from __future__ import annotations

import numpy as np
import onnx.checker
import onnx.shape_inference
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq

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


@pytest.mark.parametrize("opset", [13, 17, 19])
def test_a_quantised_model_computes_in_fp16_at_opset_19(build, run, max_scales, opset):
    nodes = [N("Conv", ["x", "w", "b"], ["a"]), N("Relu", ["a"], ["r"]), N("Conv", ["r", "v", "c"], ["y"])]
    weights = {"w": normal(4, 3, 3, 3), "b": normal(4), "v": normal(2, 4, 3, 3), "c": normal(2)}
    model, feeds = build(nodes, {"x": (1, 3, 8, 8)}, weights, opset=opset, ir_version=9), {"x": normal(1, 3, 8, 8)}
    quantised = insert_qdq(model, max_scales(model, feeds))
    for half in (to_fp16(quantised), to_fp16(fold_weights(quantised)), fold_weights(to_fp16(quantised))):
        types = checked_types(half)
        assert half.opset == 19
        assert {types[name] for name in ("x_dequantized", "w_dequantized", "b_fp16", "a", "r")} == {10}
        scale = next(numpy_helper.to_array(t) for t in half.proto.graph.initializer if t.name == "x_scale_rounded_fp16")
        assert scale.dtype == np.float16
        error = np.abs(run(half, feeds)["y"] - run(quantised, feeds)["y"])
        assert error.max() < 0.05 * np.abs(run(model, feeds)["y"]).max()


@pytest.mark.parametrize("name", LIMITS)
def test_real_quantised_models_stay_near_their_float32_selves(real_model, real_feeds, run, max_scales, name):
    model, feeds = portable(real_model(name)), real_feeds(name)
    quantised = fold_weights(insert_qdq(model, max_scales(model, feeds)))
    half = to_fp16(quantised)
    checked_types(half)
    assert len(half.serialize()) < 1.01 * len(quantised.serialize())
    exact, rounded, answers = (run(each, feeds) for each in (model, quantised, half))
    for output, expected in exact.items():
        error, usual = (np.square(each[output] - expected).mean() for each in (answers, rounded))
        assert error <= 3 * usual + 1e-6  # `usual` alone differs by 1.6 between ways in which ONNX Runtime computes it


def test_nearly_dead_channels_keep_fp16_and_their_values(build, run):
    weights = np.array([[1, 1e-3, 2e-5, 0]], np.float32).repeat(4, axis=0) * np.sign(normal(4, 4))
    model = build([N("MatMul", ["x", "w"], ["y"])], {"x": (2, 4)}, {"w": weights})
    quantised = insert_qdq(model, {"x": 4 / 127})
    for half in (to_fp16(quantised), to_fp16(fold_weights(quantised))):
        assert input_type(half, checked_types(half), "MatMul") == 10
        feeds = {"x": np.clip(normal(2, 4), -4, 4)}
        np.testing.assert_allclose(run(half, feeds)["y"], run(quantised, feeds)["y"], rtol=0.01, atol=1e-6)


@pytest.mark.parametrize(("scale", "weight"), [(1e-6, 1.0), (600.0, 1e-3), (0.1, 1e-4)])
def test_scales_that_fp16_cannot_express_keep_their_node_float32(build, run, scale, weight):
    nodes = [N("MatMul", ["x", "w"], ["a"]), N("Sigmoid", ["a"], ["s"]), N("MatMul", ["s", "v"], ["y"])]
    model = build(nodes, {"x": (2, 4)}, {"w": weight * np.sign(normal(4, 4)), "v": normal(4, 3)})
    quantised = fold_weights(insert_qdq(model, {"x": scale, "s": 1 / 127}))
    half = to_fp16(quantised)
    types = checked_types(half)
    readers = {node.input[0]: node.op_type for node in half.proto.graph.node}
    assert [types[name] for name in ("x_dequantized", "w_dequantized", "a", "s_dequantized")] == [1, 1, 1, 10]
    assert readers["x_dequantized"] == "MatMul"
    feeds = {"x": 100 * scale * normal(2, 4)}
    np.testing.assert_allclose(run(half, feeds)["y"], run(quantised, feeds)["y"], rtol=0.01, atol=0.01)


def test_a_kept_node_is_dequantised_in_float32(build):
    nodes = [N("MatMul", ["x", "w"], ["a"], "first"), N("MatMul", ["a", "v"], ["y"], "second")]
    model = build(nodes, {"x": (2, 4)}, {"w": normal(4, 4), "v": normal(4, 4)})
    half = to_fp16(insert_qdq(model, {"x": 0.1, "a": 0.1}), frozenset({"first"}))
    types = checked_types(half)
    names = [f"{name}_dequantized" for name in "xwav"]
    assert [types[name] for name in names] == [1, 1, 10, 10]


def float_output(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def dtypes(model):
    return [spec.dtype.value for spec in (*model.inputs, *model.outputs)]


def test_fp16_edges_need_no_casts(build, run):
    model = build([N("MatMul", ["x", "w"], ["a"]), N("Relu", ["a"], ["y"])], {"x": (2, 3)}, {"w": normal(3, 4)})
    half = to_fp16(model, io="fp16")
    assert (operators(half), dtypes(half)) == (["MatMul", "Relu"], ["FP16", "FP16"])
    checked_types(half)
    x = normal(2, 3)
    answer = run(half, {"x": x.astype(np.float16)})["y"]
    assert answer.dtype == np.float16
    np.testing.assert_allclose(answer, run(model, {"x": x})["y"], atol=0.01)


def test_fp16_edges_serve_float32_nodes_through_casts(build, run):
    nodes = [
        N("Exp", ["x"], ["e"]),
        N("MatMul", ["x", "w"], ["m"]),
        N("Log", ["e"], ["y"]),
        N("Add", ["e", "m"], ["z"]),
    ]
    inputs = [float_output("x", 2, 3), helper.make_tensor_value_info("n", TensorProto.INT64, [2])]
    model = build([*nodes, N("Neg", ["n"], ["i"])], inputs, {"w": normal(3, 3)}, ["e", "y", "z", "i"])
    half = to_fp16(model, io="fp16")
    checked_types(half)
    assert dtypes(half) == ["FP16", "INT64", "FP16", "FP16", "FP16", "INT64"]
    feeds = {"x": normal(2, 3), "n": np.array([1, 2])}
    answers = run(half, {**feeds, "x": feeds["x"].astype(np.float16)})
    for name, expected in run(model, feeds).items():
        np.testing.assert_allclose(answers[name], expected, rtol=0.01, atol=0.02)


def test_edges_beyond_fp16_or_shared_with_subgraphs_stay_float32(build):
    inner = helper.make_graph([N("Neg", ["s"], ["t"])], "t", [], [float_output("t", 2)])
    other = helper.make_graph([N("Abs", ["s"], ["e"])], "e", [], [float_output("e", 2)])
    nodes = [
        N("Add", ["x", "k"], ["y"]),
        N("If", ["c"], ["z"], then_branch=inner, else_branch=other),
        N("Relu", ["s"], ["r"]),
    ]
    inputs = [*(float_output(name, 2) for name in "xs"), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    model = build(nodes, inputs, {"k": np.float32(1)}, ["y", "z", "r", "k"])
    assert dtypes(to_fp16(model, io="fp16")) == ["FP16", "FP32", "BOOL", "FP16", "FP16", "FP16", "FP32"]
    half = to_fp16(model, ranges={"x": 1e5, "y": 1e5, "s": 1.0, "r": 1.0, "z": 1.0}, io="fp16")
    assert dtypes(half) == ["FP32", "FP32", "BOOL", "FP32", "FP16", "FP16", "FP32"]
    checked_types(half)


@pytest.mark.parametrize("name", ["cls", "minilm"])
def test_real_models_take_and_give_fp16(real_model, real_feeds, run, name):
    model, feeds = portable(real_model(name)), real_feeds(name)
    half = to_fp16(model, io="fp16")
    checked_types(half)
    assert "FP32" not in dtypes(half)
    answers = run(half, {spec.name: feeds[spec.name].astype(spec.dtype.numpy) for spec in half.inputs})
    for output, expected in run(model, feeds).items():
        np.testing.assert_allclose(answers[output], expected, atol=LIMITS[name] * max(1, np.abs(expected).max()))


def test_a_mixed_model_reads_its_fp16_tensors_as_they_are(build, run):
    nodes = [
        N("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        N("MatMul", ["h", "w"], ["a"]),
        N("Cast", ["a"], ["f"], to=TensorProto.FLOAT),
        N("MatMul", ["f", "v"], ["m"]),
        N("Cast", ["m"], ["half"], to=TensorProto.FLOAT16),
        N("Relu", ["half"], ["y"]),
    ]
    weights = {"w": normal(4, 3).astype(np.float16), "v": normal(3, 3)}
    half, types = halved(build, run, nodes, {"x": (2, 4)}, weights)
    products = [node.input[0] for node in half.proto.graph.node if node.op_type == "MatMul"]
    assert (products, types["m"]) == (["h", "a"], 10)


def test_grid_sample_gets_both_inputs_in_float32(build, run):
    nodes = [N("Relu", ["x"], ["r"]), N("GridSample", ["r", "g"], ["y"])]
    half, types = halved(build, run, nodes, {"x": (1, 2, 4, 4), "g": (1, 3, 3, 2)}, opset=16)
    assert [input_type(half, types, "GridSample", position) for position in (0, 1)] == [1, 1]
