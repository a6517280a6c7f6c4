from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edge_runtime.errors import DataError
from edge_runtime.graph.macs import int8_share, mac_tensors, macs, quantised_nodes
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq, quantizable

N = helper.make_node


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.fixture
def counted(run):
    """A function that counts a model's multiply-accumulates for one feed."""

    def count(model, feeds):
        tensors = mac_tensors(model)
        seen = {**feeds, **run(with_extra_outputs(model, tensors), feeds)}
        return macs(model, {name: seen[name].shape for name in tensors})

    return count


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "expected"),
    [
        (N("Conv", ["x", "w"], ["y"], pads=[1] * 4), {"x": (2, 4, 8, 9)}, {"w": (5, 4, 3, 3)}, 2 * 5 * 8 * 9 * 4 * 9),
        (N("Conv", ["x", "w"], ["y"], strides=[2, 2]), {"x": (2, 4, 9, 9)}, {"w": (5, 4, 3, 3)}, 2 * 5 * 16 * 4 * 9),
        (N("Conv", ["x", "w"], ["y"], group=2), {"x": (1, 4, 8, 8)}, {"w": (6, 2, 1, 1)}, 6 * 64 * 2),
        (N("Conv", ["x", "w"], ["y"], group=4), {"x": (3, 4, 8, 8)}, {"w": (4, 1, 3, 3)}, 3 * 4 * 36 * 9),
        (N("Conv", ["x", "w"], ["y"], dilations=[2]), {"x": (2, 4, 9)}, {"w": (5, 4, 3)}, 2 * 5 * 5 * 4 * 3),
        (N("Conv", ["x", "w"], ["y"]), {"x": (1, 2, 4, 4, 4)}, {"w": (3, 2, 3, 3, 3)}, 3 * 8 * 2 * 27),
        (N("Conv", ["x", "z"], ["y"]), {"x": (1, 2, 4, 4), "z": (3, 2, 1, 1)}, {}, 3 * 16 * 2),
        (N("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), {"x": (2, 4, 5, 5)}, {"w": (4, 3, 2, 2)}, 200 * 3 * 4),
        (N("ConvTranspose", ["x", "w"], ["y"], group=2), {"x": (2, 4, 5, 5)}, {"w": (4, 3, 2, 2)}, 200 * 3 * 4),
        (N("Gemm", ["x", "w"], ["y"]), {"x": (2, 6)}, {"w": (6, 5)}, 2 * 6 * 5),
        (N("Gemm", ["x", "w"], ["y"], transA=1, transB=1), {"x": (6, 2)}, {"w": (5, 6)}, 2 * 6 * 5),
        (N("MatMul", ["x", "w"], ["y"]), {"x": (2, 3, 6)}, {"w": (6, 5)}, 2 * 3 * 6 * 5),
        (N("MatMul", ["x", "z"], ["y"]), {"x": (2, 1, 3, 6), "z": (4, 6, 5)}, {}, 2 * 4 * 3 * 6 * 5),
        (N("MatMul", ["x", "w"], ["y"]), {"x": (2, 3, 6)}, {"w": (6,)}, 2 * 3 * 6),
        (N("MatMul", ["w", "x"], ["y"]), {"x": (6, 5)}, {"w": (6,)}, 6 * 5),
        (N("MatMul", ["x", "z"], ["y"]), {"x": (6,), "z": (6,)}, {}, 6),
        (N("Einsum", ["x", "z"], ["y"], equation="...ij, jk -> ...ik"), {"x": (2, 4, 3, 6), "z": (6, 5)}, {}, 8 * 90),
        (N("Einsum", ["x", "z"], ["y"], equation="bhid,bhjd->bhij"), {"x": (2, 4, 3, 6), "z": (2, 4, 5, 6)}, {}, 720),
        (N("LSTM", ["x", "w", "r"], ["y"], hidden_size=2), {"x": (5, 3, 4)}, {"w": (1, 8, 4), "r": (1, 8, 2)}, 15 * 48),
        (N("Relu", ["x"], ["y"]), {"x": (2, 3)}, {}, None),
        (N("Einsum", ["x"], ["y"], equation="ij->ji"), {"x": (2, 3)}, {}, None),
    ],
)
def test_multiply_accumulates_are_those_of_the_definition(build, counted, node, inputs, weights, expected):
    model = portable(build([node], inputs, {name: ones(*shape) for name, shape in weights.items()}))
    found = counted(model, {name: ones(*shape) for name, shape in inputs.items()})
    assert list(found.values()) == ([expected] if expected else [])


def test_dynamic_sizes_count_as_they_were_in_the_run(build, counted):
    model = portable(build([N("MatMul", ["x", "w"], ["y"])], {"x": ["n", "t", 6]}, {"w": ones(6, 5)}))
    assert [*counted(model, {"x": ones(2, 7, 6)}).values()] == [2 * 7 * 6 * 5]


def test_nodes_inside_subgraphs_are_not_counted(build, counted):
    branch = helper.make_graph(
        [N("MatMul", ["x", "w"], ["b"])], "branch", [], [helper.make_tensor_value_info("b", 1, [2, 2])]
    )
    inputs = [helper.make_tensor_value_info("x", 1, [2, 2]), helper.make_tensor_value_info("c", 9, [])]
    model = portable(build([N("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], inputs, {"w": ones(2, 2)}))
    assert counted(model, {"x": ones(2, 2), "c": np.array(True)}) == {}


def test_a_missing_shape_is_named(build):
    model = portable(build([N("MatMul", ["x", "w"], ["y"])], {"x": ["n", 6]}, {"w": ones(6, 5)}))
    with pytest.raises(DataError, match="'y'"):
        macs(model, {"x": (2, 6)})


def two_layers(build):
    nodes = [N("MatMul", ["x", "w"], ["a"], "one"), N("MatMul", ["a", "v"], ["y"], "two")]
    return build(nodes, {"x": ["n", 3]}, {"w": ones(3, 3), "v": ones(3, 9)})


@pytest.mark.parametrize(("exclude", "share"), [((), 1.0), (("one",), 0.75), (("two",), 0.25), (("one", "two"), 0.0)])
def test_the_int8_share_is_that_of_the_nodes_with_int8_factors(build, counted, exclude, share):
    model = two_layers(build)
    quantised = insert_qdq(model, {"x": 0.1, "a": 0.1}, frozenset(exclude))
    assert quantised_nodes(fold_weights(quantised)) == {"one", "two"} - set(exclude)
    assert int8_share(quantised, counted(model, {"x": ones(2, 3)})) == share


@pytest.mark.parametrize("factors", [["x", "d"], ["d", "x"]])
def test_one_int8_factor_is_not_enough(build, factors):
    nodes = [N("DequantizeLinear", ["q", "s"], ["d"]), N("MatMul", factors, ["y"], "half")]
    model = build(nodes, {"x": [3, 3]}, {"q": np.ones((3, 3), np.int8), "s": np.float32(0.1)})
    assert quantised_nodes(model) == frozenset()
    assert int8_share(model, {"half": 6}) == 0
    assert int8_share(model, {}) == 0


@pytest.mark.parametrize("name", ["cls", "det", "rec", "magika", "minilm"])
def test_real_models_can_be_int8_nearly_throughout(real_model, real_feeds, counted, name):
    model = portable(real_model(name))
    counts = counted(model, real_feeds(name))
    assert int8_share(insert_qdq(model, dict.fromkeys(quantizable(model), 0.1)), counts) > 0.99


def test_a_real_transformer_costs_what_its_dimensions_say(real_model, real_feeds, counted):
    layers, width, length = 3, 384, 9
    counts = counted(portable(real_model("minilm")), real_feeds("minilm", batch=1))
    assert sum(counts.values()) == layers * (12 * length * width**2 + 2 * length**2 * width)
