from __future__ import annotations

import time
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.graph.folding import drop_dead_nodes, forget_claims
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import insert_qdq, quantizable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.tensors import ShapeRange

N = helper.make_node
V = helper.make_tensor_value_info


def kinds(model):
    return Counter(node.op_type for node in model.proto.graph.node)


def stored(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}


@pytest.mark.parametrize(("name", "nodes"), [("cls", 181), ("det", 269), ("rec", 341), ("magika", 84), ("minilm", 122)])
def test_real_models_of_fixed_shapes_lose_what_computes_shapes(real_path, real_model, real_feeds, run, name, nodes):
    feeds = real_feeds(name)
    fixed = with_shapes(real_model(name), {key: ShapeRange.fixed(value.shape) for key, value in feeds.items()})
    folded = portable(fixed)
    assert len(folded.proto.graph.node) == nodes
    assert not kinds(folded).keys() & {"Shape", "Size", "ConstantOfShape", "Constant", "Where"}
    expected = run(real_path(name).read_bytes(), feeds)
    for output, answer in run(folded, feeds).items():
        np.testing.assert_allclose(answer, expected[output], atol=1e-5)


@pytest.mark.parametrize("name", ["cls", "det", "rec", "magika", "minilm"])
def test_real_models_keep_the_names_that_tables_and_recipes_use(real_model, real_feeds, name):
    whole = portable(real_model(name))
    ranges = {key: ShapeRange.fixed(value.shape) for key, value in real_feeds(name).items()}
    fixed = portable(with_shapes(real_model(name), ranges))
    assert set(quantizable(whole)) <= set(quantizable(fixed))
    kept = {node.output[0]: node.name for node in whole.proto.graph.node}
    assert all(node.name == kept[node.output[0]] for node in fixed.proto.graph.node if node.output[0] in kept)
    assert kinds(insert_qdq(fixed, dict.fromkeys(quantizable(whole), 0.1)))["QuantizeLinear"]


SHAPE_CHAIN = [
    N("Shape", ["x"], ["s"]),
    N("Gather", ["s", "zero"], ["n"]),
    N("Gather", ["s", "two"], ["w"]),
    N("Mul", ["w", "four"], ["m"]),
    N("Concat", ["n", "m"], ["target"], axis=0),
    N("Reshape", ["x", "target"], ["r"]),
    N("Shape", ["r"], ["t"]),
    N("Slice", ["t", "one", "two"], ["k"]),
    N("Expand", ["half", "k"], ["e"]),
    N("Mul", ["r", "e"], ["y"]),
]
SHAPE_WEIGHTS = {"zero": [0], "one": [1], "two": [2], "four": [4], "half": np.array([0.5], np.float32)}


@pytest.mark.parametrize(
    ("shape", "left"),
    [
        ([2, 4, 3], {"Reshape": 1, "Mul": 1}),
        (["n", 4, 3], {"Shape": 2, "Gather": 1, "Concat": 1, "Reshape": 1, "Slice": 1, "Expand": 1, "Mul": 1}),
        (["n", 4, "w"], {"Shape": 2, "Gather": 2, "Concat": 1, "Reshape": 1, "Slice": 1, "Expand": 1, "Mul": 2}),
    ],
)
def test_only_known_sizes_are_computed(build, run, shape, left):
    model = build(SHAPE_CHAIN, {"x": shape}, SHAPE_WEIGHTS)
    folded = portable(model)
    assert kinds(folded) == left
    for size in {2, 2 if isinstance(shape[0], int) else 5}:
        feeds = {"x": np.random.default_rng(size).standard_normal((size, 4, 3)).astype(np.float32)}
        np.testing.assert_array_equal(run(folded, feeds)["y"], run(model, feeds)["y"])


def test_what_is_declared_of_tensors_inside_decides_nothing(proto):
    raw = proto(SHAPE_CHAIN, {"x": ["n", 4, "w"]}, SHAPE_WEIGHTS)
    raw.graph.value_info.extend([V("r", TensorProto.FLOAT, [7, 7]), V("s", TensorProto.INT64, [9]), V("e", 1, [3])])
    wrong = model_from_bytes(raw.SerializeToString(), "net")
    del raw.graph.value_info[:]
    right = model_from_bytes(raw.SerializeToString(), "net")
    assert portable(wrong).serialize() == portable(right).serialize()


def test_the_declared_shape_of_an_output_decides_nothing(proto):
    nodes = [N("Expand", ["x", "t"], ["y"]), N("Shape", ["y"], ["s"]), N("Cast", ["s"], ["z"], to=1)]
    outputs = [V("y", TensorProto.FLOAT, [5, 5]), V("z", TensorProto.FLOAT, [2])]
    raw = proto(nodes, [V("x", TensorProto.FLOAT, [1, 1]), V("t", TensorProto.INT64, [2])], {}, outputs)
    assert kinds(portable(model_from_bytes(raw.SerializeToString(), "net")))["Shape"] == 1


def test_shapes_declared_in_subgraphs_are_dropped_but_for_ranks_in_loops():
    body = helper.make_graph(
        [], "body", [V("i", TensorProto.INT64, []), V("a", 1, [5, "k"])], [V("b", 1, [7])], value_info=[V("c", 1, [3])]
    )
    branch = helper.make_graph([], "branch", [], [V("d", 1, [2, 2])])
    nodes = [N("Loop", [], [], body=body), N("If", [], [], then_branch=branch, else_branch=branch)]
    graph = helper.make_graph(nodes, "g", [V("x", 1, [1])], [V("y", 1, [1])], value_info=[V("z", 1, [4])])
    forget_claims(graph)
    body, branch = (next(iter(node.attribute)).g for node in graph.node)
    assert not graph.value_info
    assert not body.value_info
    assert (graph.input[0], graph.output[0]) == (V("x", 1, [1]), V("y", 1, [1]))
    assert list(body.input[1].type.tensor_type.shape.dim) == [onnx.TensorShapeProto.Dimension()] * 2
    assert len(body.output[0].type.tensor_type.shape.dim) == 1
    assert body.input[0] == V("i", TensorProto.INT64, [])
    assert branch.output[0] == onnx.ValueInfoProto(name="d")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "?"])
def test_constants_of_every_type_move_as_they_are(build, run, dtype):
    values = np.array([[0, 1, 1], [1, 0, 3]]).astype(dtype)
    nodes = [
        N("Transpose", ["w"], ["t"]),
        N("Gather", ["t", "rows"], ["g"]),
        N("Concat", ["g", "t"], ["c"], axis=0),
        N("Unsqueeze", ["c", "axes"], ["k"]),
        N("Cast", ["k"], ["f"], to=1),
        N("Mul", ["x", "f"], ["y"]),
    ]
    model = portable(build(nodes, {"x": ["n", 1, 1]}, {"w": values, "rows": [2, 0], "axes": [0]}))
    assert kinds(model) == {"Mul": 1}
    expected = np.concatenate([values.T[[2, 0]], values.T])[None].astype(np.float32)
    np.testing.assert_array_equal(run(model, {"x": np.ones((1, 1, 1), np.float32)})["y"], expected)


def test_bfloat16_weights_stay_behind_their_cast(build):
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [2], [1.0, 2.0])
    nodes = [N("Constant", [], ["w"], value=weight), N("Cast", ["w"], ["f"], to=1), N("Mul", ["x", "f"], ["y"])]
    model = portable(build(nodes, {"x": ["n", 2]}))
    assert kinds(model) == {"Cast": 1, "Mul": 1}


def test_nan_and_infinity_stay(build, run):
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    model = portable(build([N("Neg", ["w"], ["k"]), N("Max", ["x", "k"], ["y"])], {"x": [3]}, {"w": values}))
    assert kinds(model) == {"Max": 1}
    np.testing.assert_array_equal(stored(model)["k"], -values)


def test_what_has_no_elements_is_folded_too(build, run):
    nodes = [N("Concat", ["none", "w"], ["k"], axis=0), N("Add", ["x", "k"], ["y"])]
    model = portable(build(nodes, {"x": [2]}, {"none": np.zeros(0, np.float32), "w": np.ones(2, np.float32)}))
    assert kinds(model) == {"Add": 1}
    np.testing.assert_array_equal(run(model, {"x": np.ones(2, np.float32)})["y"], [2, 2])


@pytest.mark.parametrize(
    "made",
    [
        N("RandomUniformLike", ["w"], ["k"]),
        N("Bernoulli", ["w"], ["k"], dtype=1),
        N("Div", ["w", "w"], ["k"]),
    ],
)
def test_random_and_unclean_results_stay_nodes(build, made):
    model = portable(build([made, N("Add", ["x", "k"], ["y"])], {"x": [2]}, {"w": np.zeros(2, np.float32)}, opset=15))
    assert len(model.proto.graph.node) == 2


def test_weights_are_not_quantised_here(build):
    weights = {"w": np.ones((2, 2), np.float32), "scale": np.float32(0.1), "zero": np.int8(0)}
    nodes = [
        N("QuantizeLinear", ["w", "scale", "zero"], ["q"]),
        N("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        N("MatMul", ["x", "d"], ["y"]),
    ]
    model = portable(build(nodes, {"x": ["n", 2]}, weights))
    assert kinds(model) == {"QuantizeLinear": 1, "DequantizeLinear": 1, "MatMul": 1}


F = np.ones(1, np.float32)
HUGE = {
    "expand": ([N("Expand", ["a", "s"], ["k"])], {"a": F, "s": [2**40]}),
    "overflowing": ([N("Expand", ["a", "s"], ["k"])], {"a": F, "s": [2**62, 4, 4]}),
    "negative": ([N("Expand", ["a", "s"], ["k"])], {"a": F, "s": [-5]}),
    "tile": ([N("Tile", ["a", "s"], ["k"])], {"a": F, "s": [2**40]}),
    "pad": ([N("Pad", ["a", "s"], ["k"])], {"a": F, "s": [2**40, 0]}),
    "range": (
        [N("Range", ["b", "e", "d"], ["k"])],
        {"b": np.float32(0), "e": np.float32(2**40), "d": np.float32(0.5)},
    ),
    "endless": (
        [N("Range", ["b", "e", "d"], ["k"])],
        {"b": np.float32(0), "e": np.float32(np.inf), "d": np.float32(1)},
    ),
    "filled": ([N("ConstantOfShape", ["s"], ["k"])], {"s": [2**20, 2**20]}),
    "outer": (
        [N("Mul", ["a", "b"], ["k"])],
        {"a": np.ones((4000, 1), np.float32), "b": np.ones((1, 4000), np.float32)},
    ),
    "product": ([N("MatMul", ["a", "a"], ["k"])], {"a": np.ones((2048, 2048), np.float32)}),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_results_are_refused_before_they_are_made(build, name):
    nodes, weights = HUGE[name]
    model = build([*nodes, N("Add", ["x", "k"], ["y"])], {"x": [1]}, weights)
    begun = time.perf_counter()
    assert len(portable(model).proto.graph.node) == 2
    assert time.perf_counter() - begun < 5


def test_a_model_grows_by_a_bounded_amount(build):
    weights = {"w": np.ones(1 << 20, np.float32)}
    nodes = [N("Neg", ["w"], [f"k{index}"]) for index in range(40)]
    nodes += [N("Mul", ["x", f"k{index}"], [f"y{index}"]) for index in range(40)]
    model = build(nodes, {"x": [1]}, weights, [f"y{index}" for index in range(40)])
    assert len(portable(model).serialize()) < len(model.serialize()) + (24 << 20)


def test_what_only_constants_read_takes_no_room(build):
    weights = {"w": np.ones(1 << 20, np.float32)}
    nodes = [N("Neg", ["w"], ["k0"])] + [N("Neg", [f"k{index}"], [f"k{index + 1}"]) for index in range(40)]
    model = portable(build([*nodes, N("Mul", ["x", "k40"], ["y"])], {"x": [1]}, weights))
    assert kinds(model) == {"Mul": 1}
    assert list(stored(model)) == ["k40"]


@pytest.mark.slow
def test_ten_thousand_foldable_nodes_take_seconds(build):
    nodes = [N("Add", ["k0", "one"], ["k1"])]
    nodes += [N("Add", [f"k{index}", "one"], [f"k{index + 1}"]) for index in range(1, 10_000)]
    model = build([*nodes, N("Mul", ["x", "k10000"], ["y"])], {"x": [1]}, {"k0": np.float32(0), "one": np.float32(1)})
    begun = time.process_time()
    folded = portable(model)
    assert time.process_time() - begun < 20
    assert stored(folded)["k10000"] == 10_000


def test_dead_nodes_go_and_inputs_stay(build):
    nodes = [N("Relu", ["x"], ["y"]), N("Neg", ["x"], ["idle"]), N("Abs", ["idle"], ["idler"])]
    model = portable(build(nodes, {"x": [1], "unused": [2]}, {"w": np.ones(9, np.float32)}))
    assert kinds(model) == {"Relu": 1}
    assert [spec.name for spec in model.inputs] == ["x", "unused"]


def test_what_subgraphs_read_is_not_dead():
    branch = helper.make_graph([N("Neg", ["h"], ["o"])], "branch", [], [V("o", 1, None)])
    nodes = [
        N("Relu", ["x"], ["h"]),
        N("Relu", ["h"], ["idle"]),
        N("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(nodes, "g", [], [V("y", 1, None)])
    drop_dead_nodes(graph)
    assert [node.op_type for node in graph.node] == ["Relu", "If"]


def test_a_constant_output_stays_the_output_of_a_node(build, run):
    nodes = [N("Neg", ["w"], ["k"]), N("Exp", ["k"], ["z"]), N("Add", ["z", "x"], ["y"])]
    model = portable(build(nodes, {"x": [1]}, {"w": np.float32(2)}, ["y", "z"]))
    assert kinds(model) == {"Exp": 1, "Add": 1}
    np.testing.assert_allclose(run(model, {"x": np.zeros(1, np.float32)})["z"], np.exp(-2), rtol=1e-6)


def test_folding_what_needed_a_newer_opset_lowers_it(build):
    nodes = [N("Trilu", ["w"], ["k"]), N("MatMul", ["x", "k"], ["y"])]
    assert portable(build(nodes, {"x": ["n", 3]}, {"w": np.ones((3, 3), np.float32)}, opset=14)).opset == 13


STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12)


def little_graph(steps):
    """Nodes over float tensors [2, 3], made from constants, an input, and sizes of both."""
    floats, nodes = ["x", "w", "v"], []
    for kind, first, second in steps:
        a, b, new = floats[first % len(floats)], floats[second % len(floats)], f"t{len(nodes)}"
        size = [N("Shape", [b], [f"{new}s"]), N("Gather", [f"{new}s", ("i0", "i1")[first % 2]], [f"{new}d"])]
        cast = [*size, N("Cast", [f"{new}d"], [f"{new}f"], to=1)]
        part = helper.make_graph([N("Neg", [a], [f"{new}n"])], "t", [], [V(f"{new}n", 1, None)])
        other = helper.make_graph([N("Add", [a, b], [f"{new}n"])], "e", [], [V(f"{new}n", 1, None)])
        choice = N("If", [f"{new}c"], [new], then_branch=part, else_branch=other)
        nodes += [
            [N(("Add", "Sub", "Mul", "Max")[first % 4], [a, b], [new])],
            [N(("Neg", "Relu", "Tanh", "Identity")[first % 4], [a], [new])],
            [N("Shape", [b], [f"{new}s"]), N("Reshape", [a, f"{new}s"], [new])],
            [N("Shape", [b], [f"{new}s"]), N("Expand", [a, f"{new}s"], [new])],
            [*cast, N("Mul", [a, f"{new}f"], [new])],
            [N("Greater", [a, b], [f"{new}b"]), N("Where", [f"{new}b", a, b], [new])],
            [N("Transpose", [a], [f"{new}t"]), N("Transpose", [f"{new}t"], [new])],
            [*size, N("Equal", [f"{new}d", "two"], [f"{new}c"]), choice],
            [N("ReduceMean", [a], [f"{new}m"], axes=[1]), N("Add", [f"{new}m", b], [new])],
            [N("Concat", [a, b], [f"{new}c"], axis=0), N("Slice", [f"{new}c", "i0", "two"], [new])],
        ][kind]
        floats.append(new)
    return nodes, floats[-1]


def answer(model, feeds):
    """What ONNX Runtime says without its optimizer, which breaks some Ifs whose condition it finds."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, shape=st.sampled_from([[2, 3], ["n", 3], ["n", "m"]]))
def test_any_little_graph_answers_as_before(steps, shape):
    nodes, last = little_graph(steps)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((2, 3)).astype(np.float32) for name in "wv"}
    weights.update(i0=np.array([0]), i1=np.array([1]), two=np.array([2]))
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [V("x", 1, shape)], [V(last, 1, [None, None])], tensors)
    raw = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    folded = portable(model_from_bytes(raw, "net"))
    if shape == [2, 3]:
        assert not kinds(folded).keys() & {"Shape", "Gather", "Equal", "If"}
    feeds = {"x": rng.standard_normal((2, 3)).astype(np.float32)}
    np.testing.assert_allclose(answer(folded.serialize(), feeds), answer(raw, feeds), rtol=1e-5, atol=1e-5)
