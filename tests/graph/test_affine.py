from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edge_runtime.graph.affine import fold_affine
from edge_runtime.graph.portable import portable

N = helper.make_node
IMAGE = {"x": ["n", 2, 6, 6]}
FEEDS = {"x": np.random.default_rng(3).standard_normal((2, 2, 6, 6)).astype(np.float32)}


def weight(*shape):
    return np.asarray(np.random.default_rng(shape).standard_normal(shape), np.float32)


def statistics(channels):
    rng = np.random.default_rng(channels)
    return {name: rng.uniform(0.5, 2, channels).astype(np.float32) for name in "pqrs"}


def folded(build, run, nodes, weights, feeds=None, **kwargs):
    """The operators left, after checking that the answers stay."""
    feeds = FEEDS if feeds is None else feeds
    model = build(nodes, IMAGE, weights, **kwargs)
    after = portable(model)
    for name, answer in run(after, feeds).items():
        np.testing.assert_allclose(answer, run(model, feeds)[name], rtol=1e-4, atol=1e-5)
    return [node.op_type for node in after.proto.graph.node]


NORM = N("BatchNormalization", ["c", *"pqrs"], ["y"], epsilon=1e-3)


@pytest.mark.parametrize("bias", [(), ("b0",)])
def test_batch_norm_goes_into_the_convolution(build, run, bias):
    weights = {"w": weight(3, 2, 3, 3), "b0": weight(3), **statistics(3)}
    assert folded(build, run, [N("Conv", ["x", "w", *bias], ["c"]), NORM], weights) == ["Conv"]


def test_depthwise_and_transposed_convolutions_take_it_too(build, run):
    depthwise = [N("Conv", ["x", "w"], ["c"], group=2), NORM]
    assert folded(build, run, depthwise, {"w": weight(2, 1, 3, 3), **statistics(2)}) == ["Conv"]
    transposed = [N("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2]), NORM]
    assert folded(build, run, transposed, {"w": weight(2, 3, 2, 2), **statistics(3)}) == ["ConvTranspose"]


def test_a_transposed_convolution_with_groups_stays(build, run):
    nodes = [N("ConvTranspose", ["x", "w"], ["c"], group=2), NORM]
    assert len(folded(build, run, nodes, {"w": weight(2, 2, 2, 2), **statistics(4)})) == 2


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 1, 1)])
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("first", [True, False])
def test_channelwise_arithmetic_goes_into_the_convolution(build, run, op_type, shape, first):
    weights = {"w": weight(3, 2, 3, 3), "k": np.float32(2) + np.abs(weight(*shape), dtype=np.float32)}
    nodes = [N("Conv", ["x", "w"], ["c"]), N(op_type, ["c", "k"] if first else ["k", "c"], ["y"])]
    kept = op_type == "Div" and not first
    assert folded(build, run, nodes, weights) == (["Conv", "Div"] if kept else ["Conv"])


MISSHAPEN = {
    "bias": ([N("Conv", ["x", "w", "b"], ["c"]), N("Mul", ["c", "k"], ["y"])], {"b": weight(5)}),
    "statistics": ([N("Conv", ["x", "w"], ["c"]), NORM], {**statistics(3), "r": weight(2)}),
    "rank": ([N("Conv", ["x", "w"], ["c"]), NORM], {**statistics(3), "p": weight(1, 3)}),
}


@pytest.mark.parametrize("name", MISSHAPEN)
def test_misshapen_parameters_are_left_to_the_backend(build, name):
    nodes, weights = MISSHAPEN[name]
    reshaped = [N("Reshape", ["flat", "shape"], ["x"]), *nodes]  # of a rank that nobody knows before
    inputs = [helper.make_tensor_value_info("flat", 1, ["n"]), helper.make_tensor_value_info("shape", 7, ["k"])]
    output = helper.make_tensor_value_info("y", 1, [None] * 4)
    model = build(reshaped, inputs, {"w": weight(3, 2, 3, 3), "k": np.float32(2), **weights}, [output])
    assert len(portable(model).proto.graph.node) == 3


def test_a_whole_chain_is_folded_under_the_last_name(build, run):
    weights = {"w": weight(3, 2, 3, 3), "k": np.float32(2), "k2": weight(3, 1, 1), **statistics(3)}
    nodes = [
        N("Conv", ["x", "w"], ["c"], "conv"),
        N("BatchNormalization", ["c", *"pqrs"], ["n"]),
        N("Mul", ["n", "k"], ["m"]),
        N("Add", ["m", "k2"], ["y"]),
    ]
    assert folded(build, run, nodes, weights) == ["Conv"]


@pytest.mark.parametrize("shape", [(4,), (3, 4, 4), (2, 1, 1, 1), (1, 1, 1, 1, 1)])
def test_arithmetic_that_is_not_channelwise_stays(build, run, shape):
    nodes = [N("Conv", ["x", "w"], ["c"]), N("Add", ["c", "k"], ["y"])]
    assert folded(build, run, nodes, {"w": weight(3, 2, 3, 3), "k": weight(*shape)}) == ["Conv", "Add"]


def test_an_output_that_is_read_elsewhere_stays(build, run):
    weights = {"w": weight(3, 2, 3, 3), **statistics(3)}
    conv = N("Conv", ["x", "w"], ["c"])
    assert len(folded(build, run, [conv, NORM], weights, outputs=["y", "c"])) == 2
    assert len(folded(build, run, [conv, NORM, N("Relu", ["c"], ["z"])], weights, outputs=["y", "z"])) == 3


def test_a_shared_weight_is_folded_apart(build, run):
    weights = {"w": weight(2, 2, 1, 1), **statistics(2)}
    nodes = [N("Conv", ["x", "w"], ["first"]), N("Conv", ["first", "w"], ["c"]), NORM]
    assert folded(build, run, nodes, weights) == ["Conv", "Conv"]


def test_a_fold_that_would_overflow_is_left_alone(build):
    weights = {"w": np.full((1, 2, 1, 1), 1e30, np.float32), "k": np.float32(1e30)}
    model = build([N("Conv", ["x", "w"], ["c"]), N("Mul", ["c", "k"], ["y"])], IMAGE, weights)
    assert [node.op_type for node in portable(model).proto.graph.node] == ["Conv", "Mul"]


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_folded_weights_are_those_of_the_formula(channels, seed):
    rng = np.random.default_rng(seed)
    w, scale, shift = (rng.standard_normal(shape).astype("f") for shape in ((channels, 1, 1, 1), channels, channels))
    tensors = {"w": w, "k": scale.reshape(-1, 1, 1), "s": shift.reshape(-1, 1, 1)}
    nodes = [N("Conv", ["x", "w"], ["c"]), N("Mul", ["c", "k"], ["m"]), N("Add", ["m", "s"], ["y"])]
    graph = helper.make_graph(nodes, "g", [], [helper.make_empty_tensor_value_info("y")])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    fold_affine(graph)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    np.testing.assert_allclose(stored["y_weight"].ravel(), w.ravel() * scale, rtol=1e-6)
    np.testing.assert_allclose(stored["y_bias"], shift, rtol=1e-6)
