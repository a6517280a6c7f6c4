"""The operators that most constants go through, in NumPy: loading ONNX's own implementation costs 40 ms and 20 MB."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper

from edge_runtime.graph.topology import attribute_values

Array = npt.NDArray[Any]
Settings = Mapping[str, Any]


def moved(node: onnx.NodeProto, arrays: Mapping[str, Array]) -> List[Array] | None:
    """The output of a node that only moves or casts numbers (opset 13 and later); None if it isn't one of these."""
    if node.op_type not in _MOVES or not all(node.input):
        return None
    settings = attribute_values(node)
    inputs = [arrays[name] for name in node.input]
    return [np.asarray(_MOVES[node.op_type](settings, *inputs), order="C")]


def _cast(settings: Settings, values: Array) -> Array:
    return values.astype(onnx.helper.tensor_dtype_to_np_dtype(settings["to"]))


def _reshape(settings: Settings, values: Array, shape: Array) -> Array:
    copies_zero = not settings.get("allowzero", 0)
    return values.reshape([values.shape[i] if not size and copies_zero else int(size) for i, size in enumerate(shape)])


def _squeeze(_: Settings, values: Array, axes: Array | None = None) -> Array:
    return values.squeeze(None if axes is None else tuple(axes.tolist()))


def _slice(
    _: Settings, values: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Array:
    index = [slice(None)] * values.ndim
    chosen = range(len(starts)) if axes is None else axes.tolist()
    for axis, start, end, step in zip(chosen, starts, ends, [1] * len(starts) if steps is None else steps):
        index[axis] = slice(int(start), int(end), int(step))
    return values[tuple(index)]


_MOVES: Dict[str, Callable[..., Any]] = {
    "Cast": _cast,
    "Concat": lambda settings, *values: np.concatenate(values, settings["axis"]),
    "Gather": lambda settings, values, indices: np.take(values, indices, settings.get("axis", 0)),
    "Identity": lambda _, values: values,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": lambda settings, values: values.transpose(settings.get("perm")),
    "Unsqueeze": lambda _, values, axes: np.expand_dims(values, tuple(axes.tolist())),
}
