"""A model as every ONNX Runtime and TensorRT that we meet can read it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Set

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.graph.affine import fold_affine
from edge_runtime.graph.check import run_checker
from edge_runtime.graph.inference import refresh_outputs
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.opset import at_lowest_opset
from edge_runtime.graph.topology import FreeNames, all_nodes, attribute_values, drop_unused_initializers, names_captured

Array = npt.NDArray[Any]
Settings = Mapping[str, Any]

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def portable(model: OnnxModel) -> OnnxModel:
    """The same model at the lowest opset from 13 up and an old IR version, with its weights as initializers.

    Tensors and nodes keep their names; nodes without one, or with one that another has too, get a new one. Constants
    that Identity, Cast, Transpose or Reshape pass on are computed, and channelwise arithmetic goes into convolutions.

    Raises:
        UnsupportedModelError: an operator of an old opset has no counterpart in opset 13.
    """
    proto = at_lowest_opset(model.copied_proto(), model.name)
    proto.ir_version = 8 if proto.opset_import[0].version < 19 else 10  # what TensorRT 8.5 and 10 read
    _fold_constants(proto.graph)
    fold_affine(proto.graph)
    drop_unused_initializers(proto.graph)
    _name_nodes(proto.graph)
    refresh_outputs(proto, model.name)
    run_checker(proto, model.name)
    return model.with_proto(proto)


def _fold_constants(graph: onnx.GraphProto) -> None:
    """Replace the nodes that make a constant weight by initializers, unless it is a graph output."""
    pinned = {value.name for value in graph.output}
    captured = names_captured(graph)
    known = {tensor.name: tensor for tensor in graph.initializer}
    made: List[onnx.TensorProto] = []
    renamed: Dict[str, str] = {}
    kept: List[onnx.NodeProto] = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        output = node.output[0] if node.output else ""
        if node.op_type == "Identity" and node.input[0] in known and output not in pinned | captured:
            renamed[output] = node.input[0]
            continue
        tensor = None if output in pinned else _computed(node, known)
        if tensor is None:
            kept.append(node)
        else:
            known[output] = tensor
            made.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(made)


def _computed(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    """The tensor that a node makes from constants alone, or None."""
    settings = attribute_values(node)
    if node.op_type == "Constant":
        return _constant(node, settings)
    if node.op_type not in _FOLDED or not all(name in known for name in node.input if name):
        return None
    source, *others = [known[name] for name in node.input if name]
    if source.data_type not in _FLOATS or settings.get("to", source.data_type) not in _FLOATS:
        return None
    values = _FOLDED[node.op_type](*map(onnx.numpy_helper.to_array, (source, *others)), settings)
    return onnx.numpy_helper.from_array(np.array(values, order="C"), node.output[0])


def _cast(values: Array, settings: Settings) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(onnx.helper.tensor_dtype_to_np_dtype(settings["to"]))


def _reshape(values: Array, shape: Array, settings: Settings) -> Array:
    kept = not settings.get("allowzero", 0)
    return values.reshape([values.shape[axis] if not size and kept else size for axis, size in enumerate(shape)])


def _squeeze(values: Array, *axes_and_settings: Any) -> Array:
    axes = axes_and_settings[:-1]
    return values.squeeze(tuple(axes[0].tolist()) if axes else None)


_FOLDED: Dict[str, Callable[..., Array]] = {
    "Identity": lambda values, _: values,
    "Cast": _cast,
    "Transpose": lambda values, settings: values.transpose(settings.get("perm")),
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": lambda values, axes, _: np.expand_dims(values, tuple(axes.tolist())),
}


def _constant(node: onnx.NodeProto, settings: Settings) -> onnx.TensorProto | None:
    """The tensor of a Constant node, however it is written; None for text."""
    tensor = onnx.TensorProto()
    if "value" in settings:
        tensor.CopyFrom(settings["value"])
    elif "value_float" in settings or "value_floats" in settings:
        values = settings.get("value_float", settings.get("value_floats"))
        tensor = onnx.numpy_helper.from_array(np.array(values, np.float32))
    elif "value_int" in settings or "value_ints" in settings:
        tensor = onnx.numpy_helper.from_array(np.array(settings.get("value_int", settings.get("value_ints")), np.int64))
    else:
        return None
    tensor.name = node.output[0]
    return tensor


def _name_nodes(graph: onnx.GraphProto) -> None:
    free = FreeNames(graph)
    seen: Set[str] = set()
    for node in all_nodes(graph):
        if not node.name or node.name in seen:
            node.name = free.take(node.name or node.op_type)
        seen.add(node.name)
