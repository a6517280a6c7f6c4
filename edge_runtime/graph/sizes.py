"""Sizes of tensors that a graph reads as numbers, followed through what picks some of them."""

from __future__ import annotations

import math
from typing import Any, Dict

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from edge_runtime.graph.inference import Types
from edge_runtime.graph.reference import Array, Tensors, evaluated, is_evaluable, output_types, sizes_of, type_of
from edge_runtime.graph.topology import attribute_values
from edge_runtime.graph.weights import DTYPES

Sizes = npt.NDArray[np.object_]  # of int, None where open

_PICKS = ("Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


class SizeTensors:
    """The tensors of a graph that hold sizes of others, where some sizes may be open."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._held: Dict[str, Sizes] = {}

    def follow(self, node: onnx.NodeProto, types: Types, known: Tensors) -> Array | None:
        """The output of a node if it consists of known sizes; if only some are known, later picks of them will do.

        `types` and `known` are the types and values of the tensors before the node.
        """
        if not node.input:
            return None
        if node.op_type in ("Shape", "Size"):
            held = _counted(node, types)
        elif node.input[0] in self._held:
            held = self._picked(node, known)
        else:
            return None
        if held is None:
            return None
        if None in held.ravel().tolist():
            self._held[node.output[0]] = held
            return None
        element = onnx.TensorProto.INT64 if node.op_type in ("Shape", "Size") else _element(node, types)
        return held.astype(DTYPES[element].numpy)

    def _picked(self, node: onnx.NodeProto, known: Tensors) -> Sizes | None:
        held = self._held[node.input[0]]
        if node.op_type == "Cast":
            return held if attribute_values(node)["to"] in _INTEGERS else None
        places = np.arange(held.size).reshape(held.shape)
        given = {name: known[name] for name in node.input[1:] if name in known}
        given[node.input[0]] = onnx.numpy_helper.from_array(places)
        if node.op_type not in _PICKS or not is_evaluable(node, given):
            return None
        types = output_types(node, self._opset, {name: type_of(tensor) for name, tensor in given.items()}, given)
        values = evaluated(node, self._opset, given, types) if types else None
        return None if values is None else np.asarray(held.ravel()[values[0]], object)


def _element(node: onnx.NodeProto, types: Types) -> int:
    """The data type of a node that casts or picks sizes."""
    if node.op_type == "Cast":
        return int(attribute_values(node)["to"])
    return int(types[node.input[0]].tensor_type.elem_type)


def _counted(node: onnx.NodeProto, types: Types) -> Sizes | None:
    """The output of a Shape or Size."""
    sizes: Any = sizes_of(types.get(node.input[0]))
    if sizes is None:
        return None
    if node.op_type == "Size":
        return np.array(None if None in sizes else math.prod(sizes), object)
    settings = attribute_values(node)
    return np.array(sizes[settings.get("start", 0) : settings.get("end", len(sizes))], object)
