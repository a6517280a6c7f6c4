from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.opset import at_least
from edge_runtime.graph.portable import portable

N = helper.make_node
IMAGE = [1, 2, 4, 4]
FOUR = {name: np.array([0.5, 2.0], np.float32) for name in "abcd"}
SCALES = {"s": np.array([1, 1, 2, 2], np.float32)}

OLD = {
    "upsample-7": (7, [N("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")], {}),
    "upsample-9": (9, [N("Upsample", ["x", "s"], ["y"], mode="nearest")], SCALES),
    "resize-10": (10, [N("Resize", ["x", "s"], ["y"], mode="nearest")], SCALES),
    "batch-norm-7": (7, [N("BatchNormalization", ["x", *"abcd"], ["y"], epsilon=0.01)], FOUR),
    "dropout-7": (7, [N("Dropout", ["x"], ["d"], ratio=0.3), N("Relu", ["d"], ["y"])], {}),
    "softmax-11": (11, [N("Softmax", ["x"], ["y"])], {}),
    "softmax-last-11": (11, [N("Softmax", ["x"], ["y"], axis=3)], {}),
    "log-softmax-7": (7, [N("LogSoftmax", ["x"], ["y"], axis=2)], {}),
    "clip-7": (7, [N("Clip", ["x"], ["y"], min=0.0, max=1.0)], {}),
    "clip-open-7": (7, [N("Clip", ["x"], ["y"], max=1.0)], {}),
    "pad-7": (7, [N("Pad", ["x"], ["y"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=3.0)], {}),
    "slice-7": (7, [N("Slice", ["x"], ["y"], starts=[1], ends=[3], axes=[2])], {}),
    "top-k-9": (9, [N("TopK", ["x"], ["y", "i"], k=2)], {}),
    "reduce-sum-11": (11, [N("ReduceSum", ["x"], ["y"], axes=[1], keepdims=0)], {}),
    "split-11": (11, [N("Split", ["x"], ["y", "z"], axis=1)], {}),
    "squeeze-11": (11, [N("Squeeze", ["x"], ["t"], axes=[0]), N("Unsqueeze", ["t"], ["y"], axes=[1])], {}),
    "old-gemm-7": (
        7,
        [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "w", "b"], ["y"])],
        {"w": np.ones((32, 3), np.float32), "b": np.ones(3, np.float32)},
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_old_operators_mean_the_same_at_opset_13(proto, build, run, name):
    opset, nodes, weights = OLD[name]
    model = build(nodes, {"x": IMAGE}, weights, opset=opset, ir_version=4)
    raw = proto(nodes, {"x": IMAGE}, weights, opset=opset, ir_version=4)
    raw.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("y"))
    feeds = {"x": np.linspace(-2, 2, 32, dtype=np.float32).reshape(IMAGE)}
    raised = portable(model)
    assert raised.opset == 13
    np.testing.assert_allclose(run(raised, feeds)["y"], run(raw.SerializeToString(), feeds)["y"], rtol=1e-6)


def test_a_softmax_over_the_last_axis_stays_one_node(build):
    _, nodes, _ = OLD["softmax-last-11"]
    model = portable(build(nodes, {"x": ["n", 2, "h", 4]}, opset=11))
    assert [node.op_type for node in model.proto.graph.node] == ["Softmax"]


@pytest.mark.parametrize("flag", [True, False])
def test_subgraphs_of_old_models_are_converted_too(proto, build, run, flag):
    def branch(name, axis):
        nodes = [
            N("Softmax", ["x"], [f"{name}_s"], axis=1),
            N("Squeeze", [f"{name}_s"], [f"{name}_q"], axes=[0]),
            N("ReduceSum", [f"{name}_q"], [name], axes=[axis]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, 1, [None] * 3)])

    node = N("If", ["c"], ["y"], then_branch=branch("t", 0), else_branch=branch("e", 1))
    inputs = [helper.make_tensor_value_info("x", 1, IMAGE), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    raw = proto([node], inputs, outputs=[helper.make_tensor_value_info("y", 1, [None] * 3)], opset=11, ir_version=6)
    model = portable(build([node], inputs, opset=11, ir_version=6))
    feeds = {"x": np.linspace(-2, 2, 32, dtype=np.float32).reshape(IMAGE), "c": np.array(flag)}
    np.testing.assert_allclose(run(model, feeds)["y"], run(raw.SerializeToString(), feeds)["y"], rtol=1e-6)


NEW = {
    "add-only-types": (17, [N("Add", ["x", "x"], ["y"])], 13),
    "reshape-copies-zero": (19, [N("Reshape", ["x", "s"], ["y"], allowzero=0)], 13),
    "reshape-allows-zero": (19, [N("Reshape", ["x", "s"], ["y"], allowzero=1)], 14),
    "batch-norm-inference": (15, [N("BatchNormalization", ["x", *"abcd"], ["y"], training_mode=0)], 13),
    "shape-slice": (15, [N("Shape", ["x"], ["t"], start=1), N("Cast", ["t"], ["y"], to=1)], 15),
    "reduce-axes-input": (18, [N("ReduceMean", ["x", "axis"], ["y"])], 18),
    "scatter-keeps": (18, [N("ScatterElements", ["x", "i", "u"], ["y"], reduction="max")], 18),
    "gelu": (20, [N("Gelu", ["x"], ["y"])], 20),
    "conv-22": (22, [N("Conv", ["x", "w"], ["y"])], 13),
}


@pytest.mark.parametrize("name", NEW)
def test_new_models_are_lowered_only_as_far_as_nothing_changes(proto, build, run, name):
    opset, nodes, lowest = NEW[name]
    weights = {
        "s": np.array([1, 2, 16]),
        "axis": np.array([1]),
        "w": np.ones((3, 2, 3, 3), np.float32),
        "i": np.zeros((1, 1, 1, 1), np.int64),
        "u": np.ones((1, 1, 1, 1), np.float32),
        **FOUR,
    }
    model = build(nodes, {"x": [1, 2, "h", 4]}, weights, opset=opset)
    lowered = portable(model)
    assert lowered.opset == lowest
    feeds = {"x": np.linspace(-2, 2, 32, dtype=np.float32).reshape(IMAGE)}
    if opset <= 21:  # ONNX Runtime 1.19 knows no newer one
        np.testing.assert_array_equal(run(lowered, feeds)["y"], run(model, feeds)["y"])


def test_a_type_that_the_older_operator_lacks_keeps_the_opset(build):
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT8, [2])]
    assert portable(build([N("Add", ["x", "x"], ["y"])], inputs, opset=17)).opset == 14


def test_ir_follows_the_opset(build):
    old = portable(build([N("Relu", ["x"], ["y"])], {"x": [1]}, opset=17, ir_version=10))
    new = portable(build([N("Gelu", ["x"], ["y"])], {"x": [1]}, opset=20, ir_version=9))
    assert (old.opset, old.ir_version, new.opset, new.ir_version) == (13, 8, 20, 10)


RAISED = {
    "reduce-axes": ([N("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)], {}),
    "split": ([N("Split", ["x"], ["y", "z"], axis=3)], {}),
    "resize": ([N("Resize", ["x", "", "s"], ["y"], mode="linear")], SCALES),
    "pad": ([N("Pad", ["x", "p"], ["y"], mode="reflect")], {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "batch-norm": ([N("BatchNormalization", ["x", *"abcd"], ["y"])], FOUR),
    "per-channel": (
        [N("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1), N("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1)],
        {"s": np.array([0.1, 0.2], np.float32), "z": np.zeros(2, np.int8)},
    ),
    "large-weight": (
        [N("MatMul", ["x", "w"], ["y"])],
        {"w": np.linspace(-1, 1, 4 * 400, dtype=np.float32).reshape(4, 400)},
    ),
}


@pytest.mark.parametrize("name", RAISED)
def test_a_raised_model_computes_the_same(build, run, name):
    nodes, weights = RAISED[name]
    model = build(nodes, {"x": ["n", 2, 4, 4]}, weights)
    raised = model.with_proto(at_least(model.copied_proto(), 19, "net"))
    assert (raised.opset, raised.ir_version) == (19, 10)
    assert (raised.inputs, raised.outputs) == (model.inputs, model.outputs)
    feeds = {"x": np.linspace(-2, 2, 64, dtype=np.float32).reshape(2, 2, 4, 4)}
    for output, expected in run(model, feeds).items():
        np.testing.assert_array_equal(run(raised, feeds)[output], expected)


def test_a_model_at_a_later_opset_stays_there(build):
    proto = build([N("Gelu", ["x"], ["y"])], {"x": [1]}, opset=20, ir_version=9).copied_proto()
    assert at_least(proto, 19, "net") is proto
    assert (proto.opset_import[0].version, proto.ir_version) == (20, 9)


def test_what_cannot_be_raised_is_named(build):
    inputs = [helper.make_tensor_value_info(name, TensorProto.BOOL, [2]) for name in "ab"]
    model = build([N("Not", ["a"], ["n"]), N("And", ["n", "b"], ["y"], "both")], inputs, opset=6, ir_version=4)
    with pytest.raises(UnsupportedModelError, match=r"operator And \('both'\) can't be raised from opset 6 to 19"):
        at_least(model.copied_proto(), 19, "net")
