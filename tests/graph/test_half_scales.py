from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edge_runtime.graph.half_scales import round_scales
from edge_runtime.graph.topology import constants

N = helper.make_node


def graph_of(scale, **tensors):
    """A graph that quantises x and dequantises the constant w, both by `scale`."""
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"], axis=0),
        N("DequantizeLinear", ["w", "s", "z"], ["y"], axis=0),
    ]
    values = {"s": np.asarray(scale, np.float32), "z": np.zeros(np.shape(scale), np.int8), **tensors}
    return helper.make_graph(
        nodes, "net", [], [], [numpy_helper.from_array(value, key) for key, value in values.items()]
    )


def dequantised(graph):
    known = {name: numpy_helper.to_array(tensor) for name, tensor in constants(graph).items()}
    assert len({node.input[1] for node in graph.node}) == 1
    values, scale = (known[name] for name in graph.node[1].input[:2])
    return values, values * (scale.reshape(-1, *[1] * (values.ndim - 1)) if scale.ndim else scale), scale


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(2.0**-149, 500, width=32), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_scales_fit_and_weights_keep_their_values_to_fp16s_precision(scales, random):
    scale = np.array(scales, np.float32)
    weights = np.array([[random.randint(-127, 127) for _ in range(5)] for _ in scales], np.int8)
    graph = graph_of(scale, w=weights)
    round_scales(graph, {"s"})
    _, found, rounded = dequantised(graph)
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    expected = weights * scale[:, None].astype(np.float64)
    tolerance = np.maximum(2.0**-11 * np.abs(expected), 0.5 * rounded[:, None] * (scale[:, None] < 2.0**-14))
    assert (np.abs(found - expected) <= tolerance * 1.001).all()


def test_scales_of_full_precision_leave_the_weights_alone():
    weights = np.arange(-127, 127, dtype=np.int8).reshape(2, -1)
    graph = graph_of([0.0123, 300.0], w=weights)
    round_scales(graph, {"s"})
    values, _, rounded = dequantised(graph)
    np.testing.assert_array_equal(values, weights)
    np.testing.assert_array_equal(rounded, np.array([0.0123, 300], np.float16))


def test_a_dead_channel_gets_the_smallest_scale_and_zeros():
    graph = graph_of([0.5, 1e-36], w=np.full((2, 3), 127, np.int8))
    round_scales(graph, {"s"})
    values, _, rounded = dequantised(graph)
    assert rounded[1] == 2.0**-24
    np.testing.assert_array_equal(values, [[127] * 3, [0] * 3])


@pytest.mark.parametrize("names", [set(), {"s"}])
def test_only_named_scales_change(names):
    graph = graph_of(0.0123, w=np.ones((2, 3), np.int8))
    round_scales(graph, names)
    assert {node.input[1] for node in graph.node} == ({"s_rounded"} if names else {"s"})
    assert [len(node.input) for node in graph.node] == ([3, 2] if names else [3, 3])


def test_weights_with_a_zero_point_are_quantised_again_around_it():
    zeros = np.array([3, 7], np.uint8)
    graph = graph_of([0.5, 1.5 * 2.0**-24], w=np.array([[3, 255], [7, 207]], np.uint8), z=zeros)
    round_scales(graph, {"s"})
    values, _, rounded = dequantised(graph)
    assert rounded[1] == 2.0**-23
    np.testing.assert_array_equal(values, [[3, 255], [7, 157]])
