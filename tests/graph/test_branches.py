from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.graph.portable import portable

N = helper.make_node
X = {"x": np.array([[1, -2, 3]], np.float32)}


def branch(nodes, outputs=("o",), weights=None):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(np.float32(value), name) for name, value in (weights or {}).items()]
    return helper.make_graph(nodes, "branch", [], values, tensors)


def chosen(then, otherwise, condition="c", outputs=("y",), name=""):
    return N("If", [condition], list(outputs), name, then_branch=then, else_branch=otherwise)


NEG, ABS = branch([N("Neg", ["x"], ["o"])]), branch([N("Abs", ["x"], ["o"])])


@pytest.fixture
def folded(build, run):
    """A function that folds a model of one input, checks that it answers as before, and returns it."""

    def fold(nodes, weights, outputs=("y",)):
        model = build(nodes, {"x": ["n", 3]}, weights, outputs)
        after = portable(model)
        expected = run(model, X)
        for name, answer in run(after, X).items():
            np.testing.assert_array_equal(answer, expected[name])
        return after

    return fold


def kinds(model):
    return Counter(node.op_type for node in model.proto.graph.node)


@pytest.mark.parametrize("condition", [True, [True]])
@pytest.mark.parametrize("flipped", [True, False])
def test_an_if_of_known_condition_is_its_branch(folded, condition, flipped):
    nodes = [N("Not", ["c"], ["d"]), chosen(NEG, ABS, "d" if flipped else "c")]
    assert kinds(folded(nodes, {"c": np.array(condition)})) == {"Abs" if flipped else "Neg": 1}


def test_an_if_that_an_input_decides_stays(build, run):
    inputs = [helper.make_tensor_value_info("x", 1, ["n", 3]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    model = portable(build([chosen(NEG, ABS)], inputs))
    assert kinds(model) == {"If": 1}
    np.testing.assert_array_equal(run(model, {**X, "c": np.array(True)})["y"], -X["x"])


def test_names_that_both_branches_and_two_ifs_use_become_unique(folded):
    def part(op_type):
        return branch([N(op_type, ["x"], ["t"], "same"), N("Add", ["t", "k"], ["o"])], weights={"k": 2})

    nodes = [
        chosen(part("Neg"), part("Abs"), outputs=["a"]),
        chosen(part("Abs"), part("Neg"), outputs=["b"]),
        N("Sub", ["a", "b"], ["y"]),
    ]
    model = folded(nodes, {"c": np.array(True)})
    assert kinds(model) == {"Neg": 1, "Abs": 1, "Add": 2, "Sub": 1}
    made = [name for node in model.proto.graph.node for name in node.output]
    assert len(set(made)) == len(made)


def test_unique_names_and_those_of_outputs_stay(folded):
    taken = branch([N("Neg", ["x"], ["inner"], "the_neg"), N("Abs", ["inner"], ["o"], "the_abs")])
    model = folded([chosen(taken, ABS), N("Relu", ["y"], ["z"])], {"c": np.array(True)}, ["z"])
    assert [name for node in model.proto.graph.node for name in node.output] == ["inner", "y", "z"]
    assert {"the_neg", "the_abs"} <= model.node_names


def test_captured_tensors_stay_and_branch_weights_move_up(folded):
    taken = branch([N("Mul", ["h", "w"], ["m"]), N("Add", ["m", "k"], ["o"])], weights={"k": 2})
    nodes = [N("Relu", ["x"], ["h"]), N("Identity", ["v"], ["w"]), chosen(taken, ABS), N("Neg", ["h"], ["z"])]
    model = folded(nodes, {"c": np.array(True), "v": np.float32(3)}, ["y", "z"])
    assert kinds(model) == {"Relu": 1, "Mul": 1, "Add": 1, "Neg": 1}


def test_one_tensor_may_be_several_outputs_and_a_weight_may_be_one(build, run):
    taken = branch([N("Neg", ["x"], ["o"])], ["o", "o", "k"], {"k": [[5, 5, 5]]})
    other = branch([N(op, ["x"], [op]) for op in ("Abs", "Relu", "Sign")], ["Abs", "Relu", "Sign"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in "yzk"]
    nodes = [chosen(taken, other, outputs="yzk")]
    model = portable(build(nodes, {"x": ["n", 3]}, {"c": np.array(True)}, outputs))
    assert kinds(model) == {"Neg": 1, "Identity": 2}
    for name, answer in run(model, X).items():  # ONNX Runtime can't run it as it was
        np.testing.assert_array_equal(answer, [[5, 5, 5]] if name == "k" else -X["x"])


def test_outputs_that_nothing_reads_may_have_no_name(build, run):
    taken = branch([N("Neg", ["x"], ["o"]), N("Abs", ["o"], ["p"])], ["o", "p"])
    model = portable(build([chosen(taken, taken, outputs=["", "y"])], {"x": ["n", 3]}, {"c": np.array(True)}))
    assert kinds(model) == {"Neg": 1, "Abs": 1}
    np.testing.assert_array_equal(run(model, X)["y"], np.abs(X["x"]))  # ONNX Runtime can't run it as it was


def test_a_branch_may_use_the_names_of_what_it_gives_out(folded):
    taken = branch([N("Neg", ["x"], ["y"]), N("Exp", ["y"], ["z"])], ["z"])
    nodes = [chosen(taken, ABS), N("Abs", ["y"], ["z"])]
    assert kinds(folded(nodes, {"c": np.array(True)}, ["z"])) == {"Neg": 1, "Exp": 1, "Abs": 1}


def test_ifs_inside_branches_are_decided_too(folded):
    inner = branch([N("Identity", ["w"], ["v"]), chosen(branch([N("Mul", ["x", "v"], ["p"])], "p"), ABS, "d", "o")])
    model = folded([chosen(inner, NEG)], {"c": np.array(True), "d": np.array(True), "w": np.float32(2)})
    assert kinds(model) == {"Mul": 1}


def test_an_undecided_if_inside_a_branch_keeps_what_it_reads(build, run):
    inner = branch([N("Identity", ["w"], ["v"]), chosen(branch([N("Mul", ["x", "v"], ["p"])], "p"), NEG, "d", "o")])
    other = branch([N("Identity", ["x"], ["v"]), N("Neg", ["v"], ["o"])])
    inputs = [helper.make_tensor_value_info("x", 1, ["n", 3]), helper.make_tensor_value_info("d", TensorProto.BOOL, [])]
    model = portable(build([chosen(inner, other)], inputs, {"c": np.array(True), "w": np.float32(2)}))
    assert kinds(model) == {"If": 1}
    np.testing.assert_array_equal(run(model, {**X, "d": np.array(True)})["y"], 2 * X["x"])


def test_a_condition_on_a_fixed_size_is_known(folded):
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "one"], ["d"]),
        N("GreaterOrEqual", ["d", "three"], ["c"]),
        chosen(NEG, ABS),
    ]
    assert kinds(folded(nodes, {"one": np.array([1]), "three": np.array([3])})) == {"Neg": 1}


def test_deeply_nested_ifs_are_one_node(folded):
    inner = NEG
    for _ in range(8):
        inner = branch([chosen(inner, ABS, outputs="o")])
    assert kinds(folded([chosen(inner, ABS)], {"c": np.array(True)})) == {"Neg": 1}
