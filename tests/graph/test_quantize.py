from __future__ import annotations

from collections import Counter

import numpy as np
import onnx.checker
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import CalibrationError, ModelError, UnsupportedModelError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq, quantizable
from edge_runtime.onnxruntime_api import SessionOptions, load_session

N = helper.make_node
REAL = ["cls", "det", "rec", "magika", "minilm"]


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def kinds(model):
    return Counter(node.op_type for node in model.proto.graph.node)


def tensor(model, name):
    return next(numpy_helper.to_array(each) for each in model.proto.graph.initializer if each.name == name)


def node_making(model, name):
    return next(node for node in model.proto.graph.node if name in node.output)


IMAGE = (2, 4, 8, 8)
CASES = {
    "conv": ([N("Conv", ["x", "w", "b"], ["y"])], {"x": IMAGE}, {"w": normal(5, 4, 3, 3), "b": normal(5)}),
    "conv-1d": ([N("Conv", ["x", "w"], ["y"])], {"x": (2, 4, 9)}, {"w": normal(5, 4, 3)}),
    "conv-3d": ([N("Conv", ["x", "w"], ["y"])], {"x": (1, 2, 4, 4, 4)}, {"w": normal(3, 2, 3, 3, 3)}),
    "conv-groups": ([N("Conv", ["x", "w"], ["y"], group=2)], {"x": IMAGE}, {"w": normal(6, 2, 3, 3)}),
    "conv-dynamic": ([N("Conv", ["x", "z"], ["y"])], {"x": IMAGE, "z": (3, 4, 3, 3)}, {}),
    "transposed": ([N("ConvTranspose", ["x", "w"], ["y"])], {"x": IMAGE}, {"w": normal(4, 3, 2, 2)}),
    "transposed-groups": ([N("ConvTranspose", ["x", "w"], ["y"], group=2)], {"x": IMAGE}, {"w": normal(4, 3, 2, 2)}),
    "gemm": (
        [N("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
        {"x": (2, 6)},
        {"w": normal(6, 5), "b": normal(5)},
    ),
    "gemm-trans-a": ([N("Gemm", ["x", "w"], ["y"], transA=1)], {"x": (6, 2)}, {"w": normal(6, 5)}),
    "gemm-trans-b": ([N("Gemm", ["x", "w"], ["y"], transB=1)], {"x": (2, 6)}, {"w": normal(5, 6)}),
    "gemm-constant-a": ([N("Gemm", ["w", "x"], ["y"])], {"x": (6, 2)}, {"w": normal(5, 6)}),
    "matmul": ([N("MatMul", ["x", "w"], ["y"])], {"x": (2, 3, 6)}, {"w": normal(6, 5)}),
    "matmul-vector": ([N("MatMul", ["x", "w"], ["y"])], {"x": (2, 3, 6)}, {"w": normal(6)}),
    "matmul-stack": ([N("MatMul", ["x", "w"], ["y"])], {"x": (2, 3, 6)}, {"w": normal(2, 6, 5)}),
    "matmul-left": ([N("MatMul", ["w", "x"], ["y"])], {"x": (2, 6, 3)}, {"w": normal(5, 6)}),
    "matmul-both": ([N("MatMul", ["x", "z"], ["y"])], {"x": (2, 3, 6), "z": (2, 6, 4)}, {}),
    "shared-on-two-axes": (
        [N("Gemm", ["x", "w"], ["a"]), N("Relu", ["a"], ["r"]), N("Gemm", ["r", "w"], ["y"], transB=1)],
        {"x": (2, 6)},
        {"w": normal(6, 5)},
    ),
    "residual": (
        [
            N("Conv", ["x", "w"], ["a"]),
            N("Relu", ["a"], ["r"]),
            N("Conv", ["r", "w"], ["c"]),
            N("Add", ["c", "r"], ["y"]),
        ],
        {"x": IMAGE},
        {"w": normal(4, 4, 1, 1)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_product_runs_close_to_float_folded_or_not(build, run, max_scales, name):
    nodes, inputs, weights = CASES[name]
    model = build(nodes, inputs, weights)
    feeds = {key: normal(*shape) for key, shape in inputs.items()}
    quantised = insert_qdq(model, max_scales(model, feeds))
    onnx.checker.check_model(quantised.proto, full_check=True)
    expected, answer = run(model, feeds)["y"], run(quantised, feeds)["y"]
    assert 0 < np.abs(answer - expected).max() < 0.03 * np.abs(expected).max()
    np.testing.assert_array_equal(run(fold_weights(quantised), feeds)["y"], answer)


@pytest.mark.parametrize("name", REAL)
def test_real_models_run_folded_and_unfolded_alike_and_smaller(real_model, real_feeds, run, max_scales, name):
    model, feeds = portable(real_model(name)), real_feeds(name)
    quantised = insert_qdq(model, max_scales(model, feeds))
    folded = fold_weights(quantised)
    assert len(folded.serialize()) < 0.8 * len(model.serialize())
    answers = run(quantised, feeds)
    for output, answer in run(folded, feeds).items():
        np.testing.assert_array_equal(answer, answers[output])


@pytest.mark.parametrize(("name", "limit"), [("cls", 0.1), ("magika", 0.01), ("minilm", 0.3)])
def test_real_models_stay_near_float(real_model, real_feeds, run, max_scales, name, limit):
    model, feeds = portable(real_model(name)), real_feeds(name)
    output = model.outputs[-1].name
    answer = run(insert_qdq(model, max_scales(model, feeds)), feeds)[output]
    assert np.abs(answer - run(model, feeds)[output]).max() < limit


def test_one_pair_serves_all_readers_and_outputs_stay_float(build):
    nodes = [
        N("Relu", ["x"], ["r"]),
        N("MatMul", ["r", "w"], ["a"]),
        N("MatMul", ["r", "v"], ["b"]),
        N("Neg", ["r"], ["y"]),
    ]
    weights = {"w": normal(3, 3), "v": normal(3, 2)}
    model = insert_qdq(build(nodes, {"x": ["n", 3]}, weights, outputs=["a", "b", "r", "y"]), {"r": 0.1})
    assert kinds(model)["QuantizeLinear"] == kinds(model)["DequantizeLinear"] == 3
    assert list(node_making(model, "a").input) == ["r_dequantized", "w_dequantized"]
    assert list(node_making(model, "y").input) == ["r"]
    assert node_making(model, "r").op_type == "Relu"
    assert [spec.name for spec in model.outputs] == ["a", "b", "r", "y"]


def test_scales_zero_points_and_axes_are_those_of_the_rules(build):
    weights = {"w": np.array([[1.27, -2.54], [0.0, 0.0]], np.float32), "b": normal(2)}
    model = insert_qdq(build([N("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"x": ["n", 2]}, weights), {"x": 0.5})
    quantize = node_making(model, "w_int8")
    assert [(attribute.name, attribute.i) for attribute in quantize.attribute] == [("axis", 0)]
    np.testing.assert_allclose(tensor(model, quantize.input[1]), [0.02, 0.02])  # the dead channel has a harmless one
    assert tensor(model, "x_scale").shape == ()
    assert tensor(model, "x_scale") == 0.5
    assert tensor(model, "x_zero_point").dtype == tensor(model, "w_zero_point").dtype == np.int8
    assert node_making(model, "y").input[2] == "b"
    np.testing.assert_array_equal(tensor(fold_weights(model), "w_int8"), [[64, -127], [0, 0]])


def test_weights_stay_float32_in_the_graph_until_folded(build):
    model = insert_qdq(build([N("MatMul", ["x", "w"], ["y"])], {"x": ["n", 3]}, {"w": normal(3, 2)}), {"x": 0.1})
    assert tensor(model, "w").dtype == np.float32
    folded = fold_weights(model)
    assert {each.name for each in folded.proto.graph.initializer} >= {"w_int8"}
    assert "w" not in {each.name for each in folded.proto.graph.initializer}
    assert kinds(folded) == {"QuantizeLinear": 1, "DequantizeLinear": 2, "MatMul": 1}


def test_excluded_nodes_and_those_without_a_scale_stay_float(build):
    nodes = [N("MatMul", ["x", "w"], ["a"], "first"), N("MatMul", ["a", "w"], ["y"], "second")]
    model = build(nodes, {"x": ["n", 3]}, {"w": normal(3, 3)})
    for quantised in (insert_qdq(model, {"x": 0.1, "a": 0.1}, frozenset({"first"})), insert_qdq(model, {"a": 0.1})):
        assert list(node_making(quantised, "a").input) == ["x", "w"]
        assert list(node_making(quantised, "y").input) == ["a_dequantized", "w_dequantized"]


def test_an_add_stays_float_with_its_convolution(build):
    nodes, inputs, weights = CASES["residual"]
    model = portable(build(nodes, inputs, weights))
    scales = dict.fromkeys(quantizable(model), 0.1)
    second = node_making(model, "c").name
    quantised = insert_qdq(model, scales, frozenset({second}))
    assert list(node_making(quantised, "y").input) == ["c", "r"]
    assert list(node_making(insert_qdq(model, scales), "y").input) == ["c", "r_dequantized"]


def test_a_model_without_products_is_unchanged(build):
    model = build([N("Relu", ["x"], ["y"])], {"x": [1]})
    assert quantizable(model) == ()
    assert fold_weights(insert_qdq(model, {"x": 0.1})).serialize() == model.serialize()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e-50, 1e50])
def test_scales_that_are_no_positive_float32_are_refused_by_name(build, scale):
    model = build([N("MatMul", ["x", "w"], ["y"])], {"x": ["n", 3]}, {"w": normal(3, 2)})
    with pytest.raises(CalibrationError, match="'x'"):
        insert_qdq(model, {"x": scale})


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["w", "b"])
def test_weights_that_are_no_numbers_are_refused_by_name(build, name, value):
    weights = {"w": normal(3, 2), "b": normal(2)}
    weights[name].ravel()[1] = value
    model = build([N("Gemm", ["x", "w", "b"], ["y"])], {"x": ["n", 3]}, weights)
    with pytest.raises(ModelError, match=f"'{name}'"):
        insert_qdq(model, {"x": 0.1})


def test_below_opset_13_nothing_is_inserted(build):
    model = build([N("MatMul", ["x", "w"], ["y"])], {"x": ["n", 3]}, {"w": normal(3, 2)}, opset=12)
    with pytest.raises(UnsupportedModelError, match="opset 13, got 12"):
        insert_qdq(model, {"x": 0.1})
    assert insert_qdq(portable(model), {"x": 0.1}).opset == 13


@pytest.mark.parametrize("dead", [0.0, 1e-6, 1e-20, 1e-42])
@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul"])
def test_the_bias_of_a_nearly_dead_channel_survives(build, run, max_scales, op_type, dead):
    weights = {"w": normal(8, 16), "b": normal(16) * 5, "v": normal(16, 4)}
    weights["w"][:, 1] *= np.float32(dead)
    weights["b"][1] = 50
    nodes = {
        "Conv": [N("Conv", ["x", "w", "b"], ["c"]), N("Flatten", ["c"], ["a"])],
        "Gemm": [N("Gemm", ["x", "w", "b"], ["a"])],
        "MatMul": [N("MatMul", ["x", "w"], ["m"]), N("Add", ["m", "b"], ["a"])],
    }[op_type]
    shape = (2, 8, 1, 1) if op_type == "Conv" else (2, 8)
    if op_type == "Conv":
        weights["w"] = weights["w"].T.reshape(16, 8, 1, 1)
    model = build([*nodes, N("Relu", ["a"], ["r"]), N("MatMul", ["r", "v"], ["y"])], {"x": shape}, weights)
    feeds = {"x": normal(*shape)}
    expected = run(model, feeds)["y"]
    answer = run(insert_qdq(model, max_scales(model, feeds)), feeds)["y"]
    assert np.abs(answer - expected).max() < 0.05 * np.abs(expected).max()


def test_uint8_input_through_a_cast_is_quantised_after_it(build, run, max_scales):
    nodes = [N("Cast", ["x"], ["f"], to=TensorProto.FLOAT), N("Conv", ["f", "w"], ["y"])]
    model = build(
        nodes, [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 2, 4, 4])], {"w": normal(3, 2, 3, 3)}
    )
    feeds = {"x": np.random.default_rng(5).integers(0, 256, (2, 2, 4, 4), dtype=np.uint8)}
    assert quantizable(model) == ("f",)
    expected, answer = run(model, feeds)["y"], run(insert_qdq(model, max_scales(model, feeds)), feeds)["y"]
    assert np.abs(answer - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_old_models_are_quantised_after_portable(build, run, max_scales, opset):
    nodes = [N("Conv", ["x", "w", "b"], ["c"]), N("BatchNormalization", ["c", *"pqrs"], ["n"]), N("Relu", ["n"], ["y"])]
    weights = {"w": normal(3, 2, 3, 3), "b": normal(3), **{name: np.ones(3, np.float32) for name in "pqrs"}}
    model = portable(build(nodes, {"x": ["n_", 2, 6, 6]}, weights, opset=opset, ir_version=4))
    quantised = insert_qdq(model, max_scales(model, {"x": normal(2, 2, 6, 6)}))
    assert kinds(quantised) == {"QuantizeLinear": 2, "DequantizeLinear": 2, "Conv": 1, "Relu": 1}
    assert run(quantised, {"x": normal(5, 2, 6, 6)})["y"].shape == (5, 3, 4, 4)


def test_folding_a_foreign_quantised_model_keeps_its_answers(build, run):
    nodes = [
        N("QuantizeLinear", ["w", "s", "z"], ["q"]),
        N("DequantizeLinear", ["q", "s", "z"], ["d"]),
        N("MatMul", ["x", "d"], ["y"]),
    ]
    weights = {"w": normal(3, 2), "s": np.array([0.01], np.float32), "z": np.array([3], np.int8)}
    model = build(nodes, {"x": ["n", 3]}, weights)
    folded = fold_weights(model)
    assert kinds(folded) == {"DequantizeLinear": 1, "MatMul": 1}
    feeds = {"x": normal(4, 3)}
    np.testing.assert_array_equal(run(folded, feeds)["y"], run(model, feeds)["y"])


@pytest.mark.parametrize(
    ("scale", "zero", "axis"),
    [
        ([0.1, 0.2, 0.3], [0, 0, 0], 1),  # there are 3 rows and 2 columns
        ([0.1, 0.2], [0, 0], 5),
        ([0.1, 0.2], [0, 0, 0], 1),
        (0.1, [0, 0], 1),
        ([0.0, 0.1], [0, 0], 1),
        ([np.nan, 0.1], [0, 0], 1),
    ],
)
def test_unsound_foreign_parameters_are_not_folded(build, scale, zero, axis):
    nodes = [N("QuantizeLinear", ["w", "s", "z"], ["q"], axis=axis), N("DequantizeLinear", ["q", "s", "z"], ["y"])]
    weights = {"w": normal(3, 2), "s": np.array(scale, np.float32), "z": np.array(zero, np.int8)}
    proto = build([N("Relu", ["x"], ["y"])], {"x": ["n"]})
    changed = proto.copied_proto()
    changed.graph.node.extend(nodes[:1])
    changed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    assert kinds(fold_weights(proto.with_proto(changed)))["QuantizeLinear"] == 1


def channel_of(node, shape, index):
    """The output channel that one element of a weight belongs to, as the operators' definitions have it."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "Conv":
        return index[0]
    if node.op_type == "ConvTranspose":
        return index[0] // (shape[0] // attributes["group"]) * shape[1] + index[1]
    if node.op_type == "Gemm":
        return index[0] if attributes["transB"] else index[1]
    return index[-1] if len(shape) > 1 else 0


@st.composite
def products(draw):
    """A node over x and w, the shapes of both, and the axis of the output's channels."""
    size = st.integers(1, 4)
    op_type = draw(st.sampled_from(["Conv", "ConvTranspose", "Gemm", "MatMul"]))
    if op_type == "MatMul":
        stack, inner = draw(st.lists(size, max_size=2)), draw(size)
        shape = draw(st.sampled_from([(inner, draw(size)), (inner,), (*stack, inner, draw(size))]))
        rows = draw(st.sampled_from([(inner,), (2, inner), (*stack, 3, inner)]))
        return N("MatMul", ["x", "w"], ["y"]), rows, shape, None if len(shape) == 1 else -1
    if op_type == "Gemm":
        settings = {name: draw(st.integers(0, 1)) for name in ("transA", "transB")}
        rows, inner, columns = draw(size), draw(size), draw(size)
        given, shape = (inner, rows) if settings["transA"] else (rows, inner), (inner, columns)
        return N("Gemm", ["x", "w"], ["y"], **settings), given, shape[::-1] if settings["transB"] else shape, 1
    group, kernel = draw(size), [draw(size) for _ in range(draw(st.integers(1, 3)))]
    into, out = draw(size), draw(size)
    shape = (group * out, into, *kernel) if op_type == "Conv" else (group * into, out, *kernel)
    strides = [draw(st.integers(1, 2)) for _ in kernel]
    node = N(op_type, ["x", "w"], ["y"], group=group, strides=strides)
    return node, (2, group * into, *(each + 2 for each in kernel)), shape, 1


@settings(max_examples=60, deadline=None)
@given(product=products(), seed=st.integers(0, 2**16))
def test_the_error_of_each_output_channel_is_bounded_by_its_own_weights(product, seed):
    node, given_shape, shape, axis = product
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal(given_shape).astype(np.float32), rng.standard_normal(shape).astype(np.float32)
    channels = np.reshape([channel_of(node, shape, index) for index in np.ndindex(shape)], shape)
    w *= np.float32(10.0) ** rng.integers(-3, 4, channels.max() + 1)[channels].astype(np.float32)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", 1, given_shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(w, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = model_from_bytes(proto.SerializeToString(), "net")
    quantised = fold_weights(insert_qdq(model, {"x": float(np.abs(x).max()) / 127}))
    expected, answer = (
        load_session(each.serialize(), SessionOptions(), "the net").run(None, {"x": x})[0]
        for each in (model, quantised)
    )
    amax = np.array([np.abs(w[channels == channel]).max() for channel in range(channels.max() + 1)])
    if len(shape) > 2 and (node.op_type == "MatMul" or (node.op_type == "ConvTranspose" and shape[1] < len(amax))):
        amax[:] = amax.max()  # one scale for all
    terms = np.bincount(channels.ravel()).max()
    error = np.abs(answer - expected).max(
        axis=tuple(i for i in range(answer.ndim) if axis is not None and i != axis % answer.ndim)
    )
    assert (error <= terms * np.abs(x).max() * amax / 127).all()


@settings(max_examples=30, deadline=None)
@given(exponents=st.lists(st.integers(-40, 30), min_size=1, max_size=6), seed=st.integers(0, 2**16))
def test_stored_weights_are_within_half_a_step_whatever_their_size(exponents, seed):
    values = np.random.default_rng(seed).standard_normal((len(exponents), 7)).astype(np.float32)
    values *= np.array([10.0**exponent for exponent in exponents], np.float32)[:, None]
    graph = helper.make_graph(
        [N("Gemm", ["x", "w"], ["y"], transB=1)],
        "net",
        [helper.make_tensor_value_info("x", 1, ["n", 7])],
        [helper.make_tensor_value_info("y", 1, ["n", len(exponents)])],
        [numpy_helper.from_array(values, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    folded = fold_weights(insert_qdq(model_from_bytes(proto.SerializeToString(), "net"), {"x": 0.1}))
    stored, scale = tensor(folded, "w_int8"), tensor(folded, "w_scale").astype(np.float64)[:, None]
    assert np.abs(stored).max() <= 127
    assert (np.abs(stored * scale - values) <= scale * 0.501).all()


def test_convolutions_are_still_fused_by_onnx_runtime(build, max_scales, tmp_path):
    nodes, inputs, weights = CASES["residual"]
    model = build([*nodes[:3], N("Conv", ["c", "w"], ["y"])], inputs, weights)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    quantised = fold_weights(insert_qdq(model, max_scales(model, {"x": normal(*IMAGE)})))
    onnxruntime.InferenceSession(quantised.serialize(), options, providers=["CPUExecutionProvider"])
    assert b"QLinearConv" in (tmp_path / "optimised.onnx").read_bytes()
