from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.checker
import pytest
from onnx import TensorProto, helper

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.portable import portable

REAL = ["cls", "det", "rec", "magika", "minilm"]
N = helper.make_node


def kinds(model):
    return Counter(node.op_type for node in model.proto.graph.node)


@pytest.mark.parametrize("name", REAL)
def test_real_models_answer_as_before(real_path, real_model, real_feeds, run, name):
    feeds = real_feeds(name)
    expected = run(real_path(name).read_bytes(), feeds)
    for output, answer in run(portable(real_model(name)), feeds).items():
        np.testing.assert_allclose(answer, expected[output], atol=1e-5)


@pytest.mark.parametrize(("name", "opset"), [("cls", 13), ("det", 13), ("rec", 13), ("magika", 13), ("minilm", 17)])
def test_real_models_get_the_lowest_opset_old_ir_and_names(real_model, name, opset):
    model = portable(real_model(name))
    assert (model.opset, model.ir_version) == (opset, 8)
    names = [node.name for node in model.proto.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert not kinds(model)["Constant"]
    onnx.checker.check_model(model.proto, full_check=True)


def test_real_convolutions_take_in_what_follows(real_model):
    model = portable(real_model("cls"))
    assert (kinds(model)["Conv"], kinds(model)["BatchNormalization"]) == (53, 0)


def test_portable_twice_is_portable_once(real_model):
    once = portable(real_model("cls"))
    assert portable(once).serialize() == once.serialize()


def test_names_of_inputs_outputs_and_tensors_stay(real_model):
    before, after = real_model("rec"), portable(real_model("rec"))
    assert [spec.name for spec in (*before.inputs, *before.outputs)] == [
        spec.name for spec in (*after.inputs, *after.outputs)
    ]
    made = {name for node in before.proto.graph.node for name in node.output}
    assert len({name for node in after.proto.graph.node for name in node.output} - made) <= 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"value": onnx.numpy_helper.from_array(np.ones(2, np.float32))}, [1, 1]),
        ({"value_float": 2.0}, [2, 2]),
        ({"value_floats": [3.0, 4.0]}, [3, 4]),
    ],
)
def test_constants_become_initializers_however_they_are_written(build, run, settings, expected):
    model = portable(build([N("Constant", [], ["c"], **settings), N("Add", ["x", "c"], ["y"])], {"x": [2]}))
    assert kinds(model) == {"Add": 1}
    assert [tensor.name for tensor in model.proto.graph.initializer] == ["c"]
    np.testing.assert_array_equal(run(model, {"x": np.zeros(2, np.float32)})["y"], expected)


def test_constant_outputs_stay_nodes(build, run):
    nodes = [N("Constant", [], ["c"], value_float=2.0), N("Identity", ["c"], ["z"]), N("Relu", ["x"], ["y"])]
    model = portable(build(nodes, {"x": [1]}, outputs=["y", "c", "z"]))
    assert [value.item() for value in run(model, {"x": np.ones(1, np.float32)}).values()] == [1, 2, 2]


def test_weights_behind_cheap_nodes_are_computed(build, run):
    nodes = [
        N("Identity", ["w"], ["a"]),
        N("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        N("Transpose", ["b"], ["c"]),
        N("Reshape", ["c", "shape"], ["d"]),
        N("Unsqueeze", ["d", "axes"], ["e"]),
        N("Squeeze", ["e", "axes"], ["f"]),
        N("MatMul", ["x", "f"], ["y"]),
    ]
    weights = {"w": np.arange(6, dtype=np.float16).reshape(2, 3), "shape": np.array([0, -1]), "axes": np.array([0])}
    model = build(nodes, {"x": ["n", 3]}, weights)
    feeds = {"x": np.eye(3, dtype=np.float32)}
    folded = portable(model)
    assert kinds(folded) == {"MatMul": 1}
    np.testing.assert_array_equal(run(folded, feeds)["y"], run(model, feeds)["y"])
    assert len(folded.proto.graph.initializer) == 1


def test_a_tied_weight_is_stored_once(build):
    nodes = [N("Identity", ["w"], ["v"]), N("MatMul", ["x", "w"], ["a"]), N("MatMul", ["a", "v"], ["y"])]
    model = portable(build(nodes, {"x": ["n", 3]}, {"w": np.eye(3, dtype=np.float32)}))
    assert [tensor.name for tensor in model.proto.graph.initializer] == ["w"]


def test_constants_that_subgraphs_read_stay_readable(build, run):
    def branch(name):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
        return helper.make_graph([N("Add", ["x", "v"], [name])], name, [], [value])

    nodes = [
        N("Identity", ["w"], ["v"]),
        N("If", ["c"], ["y"], then_branch=branch("t"), else_branch=branch("e")),
    ]
    inputs = [helper.make_tensor_value_info("x", 1, [2]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    model = portable(build(nodes, inputs, {"w": np.ones(2, np.float32)}))
    answer = run(model, {"x": np.ones(2, np.float32), "c": np.array(True)})["y"]
    np.testing.assert_array_equal(answer, [2, 2])


def test_unused_initializers_are_dropped_and_nodes_named(build):
    nodes = [N("Relu", ["x"], ["a"], "same"), N("Relu", ["a"], ["b"], "same"), N("Relu", ["b"], ["y"])]
    model = portable(build(nodes, {"x": [1]}, {"idle": np.ones(9, np.float32)}))
    assert not model.proto.graph.initializer
    assert [node.name for node in model.proto.graph.node] == ["same", "same_2", "Relu"]


def test_what_it_was_read_from_stays(build):
    model = build([N("Relu", ["x"], ["y"])], {"x": [1]})
    after = portable(model)
    assert (after.digest, after.name, after.files) == (model.digest, model.name, model.files)


def test_an_operator_without_counterpart_is_named(build):
    model = build(
        [N("BatchNormalization", ["x", *"abcd"], ["y"], spatial=0)],
        {"x": [1, 2, 2]},
        {name: np.ones((2, 2), np.float32) for name in "abcd"},
        opset=7,
    )
    with pytest.raises(UnsupportedModelError, match=r"net\.onnx: operator BatchNormalization \('y'\).*opset 7 to 13"):
        portable(model)
