from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import quantizable
from edge_runtime.graph.rules import plan_sites

N = helper.make_node
IMAGE = {"x": ["n", 4, 8, 8]}
ROWS = {"x": ["n", 6]}


def ones(*shape):
    return np.ones(shape, np.float32)


def weight_axes(model):
    return [edge.axis for site in plan_sites(model.proto) for edge in site.edges if edge.is_constant]


@pytest.mark.parametrize(
    ("node", "inputs", "shape", "axis"),
    [
        (N("Conv", ["x", "w"], ["y"]), IMAGE, (5, 4, 3, 3), 0),
        (N("Conv", ["x", "w"], ["y"], group=4), IMAGE, (4, 1, 3, 3), 0),
        (N("ConvTranspose", ["x", "w"], ["y"]), IMAGE, (4, 5, 2, 2), 1),
        (N("ConvTranspose", ["x", "w"], ["y"], group=2), IMAGE, (4, 5, 2, 2), None),
        (N("Gemm", ["x", "w"], ["y"]), ROWS, (6, 5), 1),
        (N("Gemm", ["x", "w"], ["y"], transB=1), ROWS, (5, 6), 0),
        (N("MatMul", ["x", "w"], ["y"]), ROWS, (6, 5), 1),
        (N("MatMul", ["x", "w"], ["y"]), ROWS, (6,), None),
        (N("MatMul", ["x", "w"], ["y"]), {"x": [2, 3, 6]}, (2, 6, 5), None),
        (N("MatMul", ["w", "x"], ["y"]), {"x": [6, 5]}, (3, 6), None),
    ],
)
def test_weights_have_a_scale_per_output_channel(build, node, inputs, shape, axis):
    model = build([node], inputs, {"w": ones(*shape)})
    assert (quantizable(model), weight_axes(model)) == (("x",), [axis])


def test_products_of_two_activations_take_both(build):
    model = build([N("MatMul", ["x", "z"], ["y"])], {"x": ["n", 2, 3], "z": ["n", 3, 4]})
    assert (quantizable(model), weight_axes(model)) == (("x", "z"), [])


def test_a_computed_convolution_weight_is_an_activation(build):
    assert quantizable(build([N("Conv", ["x", "z"], ["y"])], {"x": [1, 2, 4, 4], "z": [3, 2, 1, 1]})) == ("x", "z")


@pytest.mark.parametrize(
    "nodes",
    [
        [N("Conv", ["k", "w"], ["c"]), N("Add", ["c", "x"], ["y"])],
        [N("Cast", ["x"], ["h"], to=10), N("MatMul", ["h", "h"], ["m"]), N("Cast", ["m"], ["y"], to=1)],
        [N("Cast", ["x"], ["i"], to=6), N("MatMul", ["i", "i"], ["m"]), N("Cast", ["m"], ["y"], to=1)],
        [N("Relu", ["x"], ["y"])],
        [N("MatMul", ["x", "empty"], ["y"])],
    ],
)
def test_what_is_constant_not_float32_or_no_product_stays(build, nodes):
    weights = {"k": ones(1, 1, 4, 4), "w": ones(4, 1, 1, 1), "empty": ones(4, 0)}
    assert quantizable(build(nodes, {"x": [1, 4, 4, 4]}, weights)) == ()


def test_recurrent_nets_and_subgraphs_stay(build):
    branch = helper.make_graph(
        [N("MatMul", ["h", "v"], ["b"])], "branch", [], [helper.make_tensor_value_info("b", 1, [None, None, None])]
    )
    nodes = [
        N("LSTM", ["x", "w", "r"], ["l"], hidden_size=2),
        N("Squeeze", ["l", "axis"], ["h"]),
        N("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    inputs = [
        helper.make_tensor_value_info("x", 1, [5, 1, 3]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    weights = {"w": ones(1, 8, 3), "r": ones(1, 8, 2), "axis": np.array([1]), "v": ones(2, 2)}
    assert quantizable(build(nodes, inputs, weights)) == ()


def test_what_is_quantised_already_stays(build):
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"]),
        N("DequantizeLinear", ["q", "s", "z"], ["d"]),
        N("MatMul", ["d", "w"], ["y"]),
    ]
    weights = {"s": np.float32(0.1), "z": np.int8(0), "w": ones(6, 2)}
    assert quantizable(build(nodes, ROWS, weights)) == ()


def residual(shape=(4, 4, 3, 3), add=("c", "r"), more=()):
    return [
        N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        N("Relu", ["a"], ["r"]),
        N("Conv", ["r", "w"], ["c"], pads=[1, 1, 1, 1]),
        N("GlobalAveragePool", ["x"], ["g"]),
        N("Add", list(add), ["y"]),
        *more,
    ]


def added(model):
    return [site.activations for site in plan_sites(model.proto) if site.partner]


@pytest.mark.parametrize("add", [("c", "r"), ("r", "c")])
def test_the_residual_of_an_add_is_quantised(build, add):
    model = build(residual(add=add), IMAGE, {"w": ones(4, 4, 3, 3)})
    assert (quantizable(model), added(model)) == (("x", "r"), [["r"]])


def test_of_two_convolutions_the_later_one_stays_in_the_add(build):
    nodes = [*residual()[:3], N("Conv", ["x", "w"], ["s"], pads=[1, 1, 1, 1]), N("Add", ["c", "s"], ["y"])]
    assert added(build(nodes, IMAGE, {"w": ones(4, 4, 3, 3)})) == [["c"]]


@pytest.mark.parametrize(
    ("add", "more"),
    [
        (("c", "k"), ()),  # a bias
        (("c", "g"), ()),  # broadcast
        (("r", "x"), ()),  # no convolution
        (("c", "c"), ()),
        (("c", "r"), [N("Relu", ["c"], ["z"])]),  # the convolution's output is read elsewhere too: no fusion
    ],
)
def test_other_adds_stay(build, add, more):
    outputs = ["y", "z"] if more else ["y"]
    model = build(residual(add=add, more=more), IMAGE, {"w": ones(4, 4, 3, 3), "k": ones(4, 1, 1)}, outputs=outputs)
    assert added(model) == []


@pytest.mark.parametrize(("size", "expected"), [("h", [["x"]]), (8, [["x"]]), (1, [])])
def test_a_size_of_one_beside_an_open_one_is_taken_for_a_broadcast(build, size, expected):
    nodes = [N("Conv", ["z", "w"], ["c"]), N("Add", ["c", "x"], ["y"])]
    inputs = {"z": ["n", 4, "h", 8], "x": ["n", 4, size, 8]}
    assert added(build(nodes, inputs, {"w": ones(4, 4, 1, 1)})) == expected


def test_an_add_of_a_convolution_that_a_subgraph_reads_stays(build):
    branch = helper.make_graph([N("Neg", ["c"], ["b"])], "branch", [], [helper.make_tensor_value_info("b", 1, None)])
    nodes = [*residual(), N("If", ["on"], ["z"], then_branch=branch, else_branch=branch)]
    inputs = [helper.make_tensor_value_info("x", 1, [2, 4, 8, 8]), helper.make_tensor_value_info("on", 9, [])]
    assert added(build(nodes, inputs, {"w": ones(4, 4, 3, 3)}, outputs=["y"])) == []


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_there_is_nothing_to_quantise_in_other_types_than_float32(build, element):
    dtype = helper.tensor_dtype_to_np_dtype(element)
    inputs = [helper.make_tensor_value_info("x", element, ["n", 6])]
    assert quantizable(build([N("MatMul", ["x", "w"], ["y"])], inputs, {"w": np.ones((6, 2), dtype)})) == ()


@pytest.mark.parametrize(("name", "count"), [("cls", 54), ("det", 61), ("rec", 55), ("magika", 3), ("minilm", 24)])
def test_real_models_have_activations_to_calibrate(real_model, name, count):
    model = portable(real_model(name))
    tensors = quantizable(model)
    assert len(tensors) == len(set(tensors)) == count
