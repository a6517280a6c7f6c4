"""Shapes that a graph computes for itself and ONNX's inference doesn't apply: the targets of Reshape."""

from __future__ import annotations

import math
from collections import Counter
from typing import Dict, List, Mapping

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.graph.axes import Dim, Dims, input_axes, known_dims, only_named
from edge_runtime.graph.topology import FreeNames, attribute_values

_SHAPED_BY_INPUT = {"Reshape": 1, "ConstantOfShape": 0}


def add_probes(graph: onnx.GraphProto) -> Dict[str, str]:
    """Append, for each target of a Reshape, a tensor whose inferred shape shows the target's values.

    Returns the names of these tensors by target.
    """
    targets = dict.fromkeys(node.input[1] for node in graph.node if node.op_type == "Reshape")
    free = FreeNames(graph)
    probes = {target: free.take(f"{target}_probe") for target in targets}
    one = free.take("one")
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.0, np.float32), one))
    graph.node.extend(onnx.helper.make_node("Expand", [one, target], [probe]) for target, probe in probes.items())
    return probes


def reshape_hints(
    graph: onnx.GraphProto, types: Mapping[str, onnx.TypeProto], probes: Mapping[str, str]
) -> Dict[str, List[Dim]]:
    """What is known of the shapes of tensors that are shaped by another: sizes through `probes`, else the rank."""
    axes = input_axes(graph)
    hints: Dict[str, List[Dim]] = {}
    for node in graph.node:
        if node.op_type not in _SHAPED_BY_INPUT or node.output[0] not in types:
            continue
        target = node.input[_SHAPED_BY_INPUT[node.op_type]]
        length = known_dims(types.get(target))
        probed = types.get(probes.get(target, ""))
        if node.op_type == "Reshape" and probed is not None and probed.tensor_type.HasField("shape"):
            copies_zero = not attribute_values(node).get("allowzero", 0)
            source = only_named(known_dims(types.get(node.input[0])), axes)
            reshaped = _reshaped(source, probed, copies_zero)
            hints[node.output[0]] = [dim if isinstance(dim, int) or dim in axes else None for dim in reshaped]
        elif length is not None and len(length) == 1 and isinstance(length[0], int):
            hints[node.output[0]] = [None] * length[0]
    return hints


def _reshaped(source: Dims, probed: onnx.TypeProto, copies_zero: bool) -> List[Dim]:
    """The shape that a Reshape of `source` to the probed values gives."""
    dims = known_dims(probed) or []
    rest = -1
    for axis, dim in enumerate(probed.tensor_type.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value == 0 and copies_zero:
            dims[axis] = source[axis] if source is not None and axis < len(source) else None
        elif dim.HasField("dim_value") and dim.dim_value == -1:
            rest = axis
    if rest >= 0 and source is not None:
        dims[rest] = _quotient(source, dims[:rest] + dims[rest + 1 :])
    return dims


def _quotient(source: List[Dim], others: List[Dim]) -> Dim:
    """The one size that makes `others` hold as many elements as `source`, None if that is open."""
    names = Counter(dim for dim in source if not isinstance(dim, int))
    names.subtract(dim for dim in others if not isinstance(dim, int))
    total = math.prod(dim for dim in source if isinstance(dim, int))
    given = math.prod(dim for dim in others if isinstance(dim, int))
    left = [name for name, count in names.items() for _ in range(count)]
    if None in names or min(names.values(), default=0) < 0 or total % given:
        return None
    if not left:
        return total // given
    return left[0] if len(left) == 1 and total == given else None
