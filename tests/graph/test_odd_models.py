"""Control flow, several inputs and outputs of many types, and outputs that nothing computes: through every pass."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.graph.fp16 import to_fp16
from edge_runtime.graph.freeze import with_values
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.graph.portable import portable
from edge_runtime.graph.quantize import fold_weights, insert_qdq
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.tensors import ShapeRange

N = helper.make_node
G = helper.make_graph
FLOAT, INT32, INT64, BOOL, UINT8 = (getattr(TensorProto, name) for name in "FLOAT INT32 INT64 BOOL UINT8".split())


def V(name, element=FLOAT, shape=("n", 3)):
    return helper.make_tensor_value_info(name, element, shape)


def f(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def branch(*nodes):
    return G(list(nodes), "branch", [], [V(nodes[-1].output[0], FLOAT, None)])


def an_if():
    return N(
        "If",
        ["c"],
        ["z"],
        then_branch=branch(N("MatMul", ["h", "v"], ["t"])),
        else_branch=branch(N("Neg", ["h"], ["e"])),
    )


def nested_ifs():
    inner = N(
        "If",
        ["d"],
        ["i"],
        then_branch=branch(N("Add", ["h", "b"], ["t"])),
        else_branch=branch(N("Sub", ["h", "b"], ["e"])),
    )
    return N("If", ["c"], ["z"], then_branch=branch(inner), else_branch=branch(N("Identity", ["h"], ["o"])))


def a_loop():
    body = G(
        [N("Add", ["a", "b"], ["s"]), N("MatMul", ["s", "w"], ["a2"]), N("Identity", ["go"], ["go2"])],
        "body",
        [V("i", INT64, []), V("go", BOOL, []), V("a")],
        [V("go2", BOOL, []), V("a2"), V("s")],
    )
    return N("Loop", ["k", "true"], ["z", "all"], body=body)


def a_scan():
    body = G(
        [N("Add", ["state", "row"], ["state2"]), N("MatMul", ["state2", "w"], ["out"])],
        "body",
        [V("state", FLOAT, [3]), V("row", FLOAT, [3])],
        [V("state2", FLOAT, [3]), V("out", FLOAT, [3])],
    )
    return N("Scan", ["b", "h"], ["last", "z"], body=body, num_scan_inputs=1)


WEIGHTS = {"w": f(3, 3), "v": f(3, 3) + 1, "b": f(3), "true": np.array(True), "high": np.float32(1)}
LSTM = {"W": f(1, 12, 3), "R": f(1, 12, 3), "axis": [0]}
FIRST, LAST = N("MatMul", ["x", "w"], ["h"]), N("MatMul", ["z", "v"], ["y"])
X, YES, NO = f(2, 3), np.array(True), np.array(False)
A_LOOP = N("Loop", ["k", "true", "h"], ["z", "all"], body=a_loop().attribute[0].g)
# nodes, inputs, outputs, feeds
MODELS = {
    "if": ([FIRST, an_if(), LAST], [V("x"), V("c", BOOL, [])], "y", {"x": X, "c": YES}),
    "nested-if": (
        [FIRST, nested_ifs(), LAST],
        [V("x"), V("c", BOOL, []), V("d", BOOL, [])],
        "y",
        {"x": X, "c": YES, "d": NO},
    ),
    "loop": ([FIRST, A_LOOP, LAST], [V("x"), V("k", INT64, [])], ["y", "all"], {"x": X, "k": np.array(3)}),
    "scan": ([FIRST, a_scan(), LAST], [V("x")], ["y", "last"], {"x": X}),
    "lstm": (
        [
            N("LSTM", ["x", "W", "R", "", "", "h0"], ["", "s", ""], hidden_size=3),
            N("Squeeze", ["s", "axis"], ["z"]),
            LAST,
        ],
        [V("x", FLOAT, ["t", "n", 3]), V("h0", FLOAT, [1, "n", 3])],
        "y",
        {"x": f(4, 2, 3), "h0": f(1, 2, 3)},
    ),
    "types": (
        [
            N("Cast", ["u"], ["uf"], to=FLOAT),
            N("Add", ["uf", "x"], ["h"]),
            N("MatMul", ["h", "w"], ["m"]),
            N("Cast", ["i"], ["fi"], to=FLOAT),
            N("Where", ["c", "m", "fi"], ["z"]),
            N("Add", ["i", "i"], ["j"]),
            N("Not", ["c"], ["d"]),
        ],
        [V("x"), V("u", UINT8), V("i", INT64), V("c", BOOL), V("idle", INT32, [1])],
        ["z", "j", "d"],
        {
            "x": X,
            "u": np.ones((2, 3), np.uint8),
            "i": np.ones((2, 3), np.int64),
            "c": X > 0,
            "idle": np.ones(1, np.int32),
        },
    ),
    "outputs-that-nothing-computes": ([FIRST], [V("x")], ["h", "x", "w"], {"x": X}),
    "outputs-of-constants": (
        [FIRST, N("Neg", ["w"], ["n1"]), N("Neg", ["n1"], ["n2"])],
        [V("x")],
        ["h", "n2"],
        {"x": X},
    ),
    "optional-inputs": ([FIRST, N("Clip", ["h", "", "high"], ["z"]), LAST], [V("x")], "y", {"x": X}),
    "shared-axes": (
        [N("Add", ["p", "q"], ["s"]), N("Concat", ["s", "p"], ["z"], axis=1), LAST],
        [V("p", FLOAT, ["n", "t", 3]), V("q", FLOAT, ["n", "t", 3])],
        "y",
        {"p": f(2, 4, 3), "q": f(2, 4, 3)},
    ),
    "all-dynamic": (
        [
            N("Conv", ["x", "kernel"], ["c"]),
            N("Shape", ["c"], ["s"]),
            N("Slice", ["s", "axis", "two"], ["front"]),
            N("Concat", ["front", "rest"], ["target"], axis=0),
            N("Reshape", ["c", "target"], ["r"]),
            N("Transpose", ["r"], ["z"], perm=[0, 2, 1]),
            LAST,
        ],
        [V("x", FLOAT, ["n", 3, "height", "width"])],
        "y",
        {"x": f(2, 3, 6, 7)},
    ),
}


@pytest.fixture(params=MODELS)
def case(request, build, run):
    """A model, its feeds, and what it answers to them."""
    nodes, inputs, outputs, feeds = MODELS[request.param]
    weights = {**WEIGHTS, **LSTM, "kernel": f(3, 3, 3, 3), "two": [2], "rest": [-1]}
    read = {name for node in nodes for name in node.input} | {"w", "v", "b"} | set(outputs)
    rank = len(inputs[0].type.tensor_type.shape.dim)
    declared = [V("all", FLOAT, [None] * 3), V("y", FLOAT, [None] * min(rank, 3 if request.param != "lstm" else 2))]
    named = {value.name: value for value in declared}
    weights = {name: value for name, value in weights.items() if name in read}
    model = build(nodes, inputs, weights, [named.get(name, name) for name in outputs])
    return model, feeds, run(model, feeds)


def assert_alike(answers, expected, tolerance=1e-5):
    assert answers.keys() == expected.keys()
    for name, answer in answers.items():
        assert (answer.dtype, answer.shape) == (expected[name].dtype, expected[name].shape)
        np.testing.assert_allclose(answer.astype(np.float64), expected[name], atol=tolerance, rtol=tolerance)


def test_portable_keeps_the_answers_and_the_signature(case, run):
    model, feeds, expected = case
    after = portable(model)
    assert_alike(run(after, feeds), expected)
    assert after.inputs == model.inputs
    assert [(spec.name, spec.dtype) for spec in after.outputs] == [(spec.name, spec.dtype) for spec in model.outputs]


def test_fixed_shapes_keep_the_answers(case, run):
    model, feeds, expected = case
    fixed = portable(with_shapes(model, {name: ShapeRange.fixed(value.shape) for name, value in feeds.items()}))
    assert_alike(run(fixed, feeds), expected)
    for spec in fixed.outputs:
        assert all(size in (-1, got) for size, got in zip(spec.shape, expected[spec.name].shape))


def test_each_input_can_be_frozen(case, run):
    model, feeds, expected = case
    for name, value in feeds.items() if len(feeds) > 1 else ():
        frozen = portable(with_values(model, {name: value}))
        assert_alike(run(frozen, {key: fed for key, fed in feeds.items() if key != name}), expected)


def test_all_tensors_can_be_shown_and_int8_and_fp16_are_near(case, run, max_scales):
    model, feeds, expected = case
    model = portable(model)
    nodes = [node for node in model.proto.graph.node if node.op_type != "Loop"]  # the rank of its state is open
    tensors = [name for node in nodes for name in node.output if name]
    assert set(tensors) <= run(with_extra_outputs(model, tensors), feeds).keys()
    quantised = insert_qdq(model, max_scales(model, feeds))
    assert_alike(run(quantised, feeds), expected, 0.3)
    assert_alike(run(fold_weights(quantised), feeds), expected, 0.3)
    assert_alike(run(to_fp16(model), feeds), expected, 0.02)
