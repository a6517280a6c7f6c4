from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.graph.reference import output_types, type_of
from edge_runtime.graph.sizes import SizeTensors

N = helper.make_node
SHAPE = N("Shape", ["x"], ["s"])


def followed(nodes, weights=None, dims=("n", 3, 8, 4)):
    """What is told of the outputs of nodes that read `x` of these sizes."""
    known = {name: numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()}
    types = {name: type_of(tensor) for name, tensor in known.items()}
    types["x"] = helper.make_tensor_type_proto(TensorProto.FLOAT, dims)
    sizes = SizeTensors(15)
    found = {}
    for node in nodes:
        found[node.output[0]] = sizes.follow(node, types, known)
        types.update(output_types(node, 15, types, known))
    return found


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (N("Shape", ["x"], ["s"], start=1), [3, 8, 4]),
        (N("Shape", ["x"], ["s"], start=-3, end=-1), [3, 8]),
        (N("Shape", ["x"], ["s"], start=9), []),
        (N("Shape", ["x"], ["s"], end=1), None),
        (N("Size", ["x"], ["s"]), None),
        (N("Shape", ["elsewhere"], ["s"]), None),
    ],
)
def test_shape_and_size_tell_what_is_known(node, expected):
    sizes = followed([node])["s"]
    assert (sizes if sizes is None else sizes.tolist()) == expected


def test_size_is_the_product():
    sizes = followed([N("Size", ["x"], ["s"])], dims=(2, 3, 4))["s"]
    assert (sizes.dtype, sizes.shape, sizes.item()) == (np.int64, (), 24)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([N("Gather", ["s", "last"], ["y"])], 4),
        ([N("Gather", ["s", "two"], ["y"])], [8, 3]),
        ([N("Gather", ["s", "zero"], ["y"])], None),
        ([N("Slice", ["s", "two", "three"], ["y"])], None),
        ([N("Slice", ["s", "one", "three"], ["y"])], [3, 8]),
        ([N("Slice", ["s", "zero", "three"], ["c"]), N("Gather", ["c", "last"], ["y"])], 8),
        ([N("Gather", ["s", "last"], ["c"]), N("Unsqueeze", ["c", "zero"], ["y"])], None),
        ([N("Concat", ["s", "s"], ["c"], axis=0), N("Gather", ["c", "last"], ["y"])], None),
        ([N("Gather", ["s", "beyond"], ["y"])], None),
    ],
)
def test_what_picks_only_known_sizes_is_known(nodes, expected):
    weights = {"last": -1, "two": [2, 1], "zero": [0], "one": [1], "three": [3], "beyond": 9}
    sizes = followed([SHAPE, *nodes], weights)["y"]
    assert (sizes if sizes is None else sizes.tolist()) == expected


def test_sizes_keep_the_data_type_that_they_were_cast_to():
    nodes = [SHAPE, N("Cast", ["s"], ["c"], to=TensorProto.INT32), N("Gather", ["c", "i"], ["y"])]
    sizes = followed(nodes, {"i": [1, 2]})["y"]
    assert (sizes.dtype, sizes.tolist()) == (np.int32, [3, 8])


def test_sizes_are_not_followed_through_narrow_types():
    nodes = [SHAPE, N("Cast", ["s"], ["c"], to=TensorProto.UINT8), N("Gather", ["c", "i"], ["y"])]
    assert followed(nodes, {"i": [1]}, ("n", 300))["y"] is None
