"""Scales of Q/DQ as numbers that FP16 holds exactly."""

from __future__ import annotations

from typing import Any, Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from edge_runtime.graph.precision import FP16_SMALLEST
from edge_runtime.graph.topology import FreeNames, attribute_values, constants

Array = npt.NDArray[Any]

_BYTES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def round_scales(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Replace constant scales by what FP16 holds, in float32, wherever Q/DQ nodes read them.

    Below FP16's full precision (nearly dead channels beside others) they are rounded up, and int8 constants are
    quantised again in those larger steps: this costs at most 2**-24 a weight, as much as FP16 weights do.
    """
    known = constants(graph)
    free = FreeNames(graph)
    exact = {name: onnx.numpy_helper.to_array(known[name]) for name in sorted(names)}
    rounded = {name: (free.take(f"{name}_rounded"), _representable(scale)) for name, scale in exact.items()}
    graph.initializer.extend(onnx.numpy_helper.from_array(scale, name) for name, scale in rounded.values())
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[1] not in exact:
            continue
        scale = exact[node.input[1]]
        node.input[1], steps = rounded[node.input[1]]
        zero = _zero_point(node, known)
        stored = known.get(node.input[0])
        if stored is not None and stored.data_type in _BYTES and scale.min(initial=1.0) < FP16_SMALLEST:
            column = [1] * len(stored.dims)
            if scale.size > 1:
                column[attribute_values(node).get("axis", 1)] = -1
            values = _requantised(
                onnx.numpy_helper.to_array(stored), zero.reshape(column), (scale / steps).reshape(column)
            )
            node.input[0] = free.take(f"{stored.name}_rounded")
            graph.initializer.append(onnx.numpy_helper.from_array(values, node.input[0]))
        if node.op_type == "DequantizeLinear" and not zero.any():
            del node.input[2:]  # ONNX Runtime 1.19 can't load a pair with scales of two types, unless one says no more


def _zero_point(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> Array:
    given = known.get(node.input[2]) if len(node.input) > 2 else None
    return np.zeros(1) if given is None else onnx.numpy_helper.to_array(given)


def _representable(scale: Array) -> Array:
    half = scale.astype(np.float16)
    is_low = (scale < FP16_SMALLEST) & (half.astype(np.float32) < scale)
    return np.asarray(np.where(is_low, np.nextafter(half, np.float16(np.inf)), half), np.float32)


def _requantised(values: Array, zero: Array, ratio: Array) -> Array:
    limits = np.iinfo(values.dtype)
    offset = zero.astype(np.float64)
    steps = np.rint((values - offset) * ratio) + offset
    return np.asarray(np.clip(steps, limits.min, limits.max), values.dtype)
