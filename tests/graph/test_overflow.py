from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import helper

from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.overflow import overflowing
from edge_runtime.graph.quantize import insert_qdq
from edge_runtime.graph.ranges import with_ranges

N = helper.make_node


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("reach", "stays"), [(0, True), (1, True), (16000, True), (17000, False), (1e5, False), (1e-5, False)]
)
def test_nodes_whose_tensors_leave_the_range_are_named(build, reach, stays):
    model = build([N("Relu", ["x"], ["r"], "first"), N("Sigmoid", ["r"], ["y"], "second")], {"x": [2]})
    found = overflowing(model, {"x": 1.0, "r": reach, "y": 1.0})
    assert set(found) == (set() if stays else {"first", "second"})


@pytest.mark.parametrize("reach", [math.nan, math.inf])
def test_a_range_that_is_no_number_is_named_with_the_reason(build, reach):
    found = overflowing(build([N("Relu", ["x"], ["y"], "only")], {"x": [2]}), {"x": reach})
    assert found == {"only": f"input 'x' reaches {reach}"}


def test_a_node_without_a_name_is_called_by_its_output(build):
    assert list(overflowing(build([N("Relu", ["x"], ["y"])], {"x": [2]}), {"x": 1e6})) == ["y"]


W = np.full((8, 8), 2, np.float32)
INSIDE = {
    "matmul": ([N("MatMul", ["x", "w"], ["y"])], [2, 8], {"w": W}, 65504 / 16),
    "matmul-left": ([N("MatMul", ["w", "x"], ["y"])], [8, 2], {"w": W}, 65504 / 16),
    "matmul-vector": ([N("MatMul", ["x", "w"], ["y"])], [2, 8], {"w": W[0]}, 65504 / 16),
    "gemm": ([N("Gemm", ["x", "w"], ["y"])], [2, 8], {"w": W[:, :3]}, 65504 / 16),
    "gemm-turned": ([N("Gemm", ["x", "w"], ["y"], transB=1)], [2, 8], {"w": W[:3]}, 65504 / 16),
    "gemm-left": ([N("Gemm", ["w", "x"], ["y"], transA=1)], [8, 2], {"w": W[:, :3]}, 65504 / 16),
    "conv": ([N("Conv", ["x", "w"], ["y"])], [1, 2, 4, 4], {"w": np.ones((3, 2, 2, 2), np.float32)}, 65504 / 8),
    "deconv": (
        [N("ConvTranspose", ["x", "w"], ["y"], group=2)],
        [1, 4, 4, 4],
        {"w": np.ones((4, 3, 2, 2), np.float32)},
        65504 / 8,
    ),
    "lstm": (
        [N("LSTM", ["x", "w", "r"], ["y"], hidden_size=2)],
        [3, 1, 8],
        {"w": W[None], "r": np.ones((1, 8, 2), np.float32)},
        65504 / 16,
    ),
    "products-of-activations": ([N("MatMul", ["x", "x"], ["y"])], [16, 16], {}, 65504**0.5 / 2),
    "layer-norm": ([N("LayerNormalization", ["x", "g"], ["y"])], [2, 8], {"g": W[0]}, 65504**0.5 / 2),
    "instance-norm": ([N("InstanceNormalization", ["x", "g", "g"], ["y"])], [1, 8, 2], {"g": W[0]}, 65504**0.5 / 2),
}


@pytest.mark.parametrize("name", INSIDE)
def test_sums_inside_a_node_are_bounded(build, name):
    nodes, shape, weights, limit = INSIDE[name]
    model = build(nodes, {"x": shape}, weights, opset=17)
    assert not overflowing(model, {"x": 0.99 * limit})
    (reason,) = overflowing(model, {"x": 1.01 * limit}).values()
    assert reason in ("its sums may reach 6.62e+04", "its sums may reach 6.68e+04")  # the latter of squares


@pytest.mark.parametrize(
    "node", [N("GlobalAveragePool", ["x"], ["y"]), N("AveragePool", ["x"], ["y"], kernel_shape=[10, 10])]
)
def test_an_average_is_a_sum_first(build, node):
    model = build([node], {"x": [1, 2, 10, 10]})
    assert not overflowing(model, {"x": 900.0, "y": 160.0})
    assert overflowing(model, {"x": 900.0, "y": 170.0})


def test_a_softmax_over_more_than_fp16_can_count_is_named(build):
    model = build([N("Softmax", ["x"], ["y"], axis=-1)], {"x": [1, 70000]})
    assert list(overflowing(model, {"x": 1.0}).values()) == ["its sums may reach 7e+04"]


def test_masks_are_no_overflow_but_what_grows_like_them_is(build):
    nodes = [
        N("Sub", ["one", "m"], ["i"]),
        N("Mul", ["i", "low"], ["mask"]),
        N("Unsqueeze", ["mask", "axis"], ["wide"]),
        N("Add", ["x", "wide"], ["a"]),
        N("Softmax", ["a"], ["p"]),
        N("MatMul", ["p", "v"], ["y"], "product"),
    ]
    weights = {"one": np.float32(1), "low": np.float32(-1e9), "axis": np.array([0]), "v": np.eye(3, dtype=np.float32)}
    model = build(nodes, {"x": [1, 2, 3], "m": [2, 3]}, weights)
    ranges = {"x": 5.0, "m": 1.0, "i": 1.0, "mask": 1e9, "wide": 1e9, "a": 1e9, "p": 1.0, "y": 1.0}
    assert not overflowing(model, ranges)
    assert set(overflowing(model, {**ranges, "y": 1e10})) == {"product"}


def test_fp16_with_ranges_computes_what_would_overflow_in_float32(build, run):
    nodes = [
        N("MatMul", ["x", "w"], ["h"]),
        N("Mul", ["h", "big"], ["g"]),
        N("Mul", ["h", "g"], ["large"], "large"),
        N("Mul", ["large", "small"], ["y"]),
    ]
    weights = {"w": normal(4, 4), "big": np.float32(900), "small": np.float32(1e-4)}
    model = build(nodes, {"x": ["n", 4]}, weights, ["large", "y"])
    metered, tensors = with_ranges(model)
    answers = run(metered, {"x": 10 * normal(8, 4)})
    ranges = {tensor: float(answers[output]) for output, tensor in tensors.items()}
    assert "large" in overflowing(model, ranges)
    feeds = {"x": (10 * normal(8, 4)).astype(np.float16)}
    assert np.isinf(run(to_fp16(model, io="fp16"), feeds)["large"]).any()
    answer = run(to_fp16(model, ranges=ranges, io="fp16"), feeds)
    assert (answer["large"].dtype, answer["y"].dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(answer["large"], answers["large"], rtol=0.02, atol=0.5)


def test_ranges_hold_for_the_quantised_model_too(build, run, max_scales):
    nodes = [N("MatMul", ["x", "w"], ["a"], "product"), N("Tanh", ["a"], ["y"])]
    model = build(nodes, {"x": [2, 4]}, {"w": normal(4, 4)})
    feeds = {"x": 1e5 * normal(2, 4)}
    quantised = insert_qdq(model, max_scales(model, feeds))
    ranges = {"x": float(np.abs(feeds["x"]).max())}
    assert "product" in overflowing(quantised, ranges)
    half = to_fp16(quantised, ranges=ranges)
    np.testing.assert_allclose(run(half, feeds)["y"], run(quantised, feeds)["y"], atol=0.01)
