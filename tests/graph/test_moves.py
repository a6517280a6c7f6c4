from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edge_runtime.graph.moves import moved

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
I64 = np.int64

NODES = {
    "cast": (helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32), [X * 1.7 - 9]),
    "concat": (helper.make_node("Concat", ["x", "z"], ["y"], axis=-2), [X, X[:, :1]]),
    "gather": (helper.make_node("Gather", ["x", "i"], ["y"], axis=1), [X, np.array([[2, -1], [0, 0]], I64)]),
    "gather one": (helper.make_node("Gather", ["x", "i"], ["y"]), [X, np.array(-1, I64)]),
    "identity": (helper.make_node("Identity", ["x"], ["y"]), [X]),
    "reshape": (helper.make_node("Reshape", ["x", "s"], ["y"]), [X, np.array([0, -1, 2], I64)]),
    "slice": (helper.make_node("Slice", ["x", "a", "b"], ["y"]), [X, np.array([1], I64), np.array([99], I64)]),
    "slice back": (
        helper.make_node("Slice", ["x", "a", "b", "c", "d"], ["y"]),
        [X, *(np.array(each, I64) for each in ([-1, 9], [-99, 0], [2, 1], [-1, -2]))],
    ),
    "squeeze": (helper.make_node("Squeeze", ["x"], ["y"]), [X[:1, :, :1]]),
    "squeeze one": (helper.make_node("Squeeze", ["x", "a"], ["y"]), [X[:1, :, :1], np.array([-1], I64)]),
    "transpose": (helper.make_node("Transpose", ["x"], ["y"]), [X]),
    "transpose to": (helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2]), [X]),
    "unsqueeze": (helper.make_node("Unsqueeze", ["x", "a"], ["y"]), [X, np.array([-1, 0], I64)]),
}


@pytest.mark.parametrize("name", NODES)
def test_numbers_are_moved_as_onnx_moves_them(name: str) -> None:
    node, inputs = NODES[name]
    feeds = dict(zip(node.input, inputs))
    graph = helper.make_graph(
        [node], "g", [helper.make_empty_tensor_value_info(n) for n in feeds], [helper.make_empty_tensor_value_info("y")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    (want,) = ReferenceEvaluator(model).run(None, feeds)
    (got,) = moved(node, feeds) or [None]
    assert got is not None
    assert (got.dtype, got.shape, got.flags.c_contiguous) == (want.dtype, want.shape, True)
    np.testing.assert_array_equal(got, want)


def test_other_operators_and_left_out_inputs_are_left_to_onnx() -> None:
    assert moved(helper.make_node("Add", ["x", "x"], ["y"]), {"x": X}) is None
    assert moved(helper.make_node("Slice", ["x", "a", "b", "", "d"], ["y"]), {"x": X}) is None
