"""The activations of a model: which there are, how to see them, and what identifies the model."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Sequence, Tuple

import numpy.typing as npt
import onnx
import onnx.numpy_helper

from edge_runtime.graph.axes import known_dims
from edge_runtime.graph.inference import tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.outputs import with_extra_outputs
from edge_runtime.graph.source import refer
from edge_runtime.graph.topology import constants
from edge_runtime.graph.weights import DTYPES, WEIGHTS_FILE, is_large, without_weights

Array = npt.NDArray[Any]

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def float_activations(model: OnnxModel) -> Tuple[str, ...]:
    """The float inputs and computed float tensors of known rank of the main graph, in its order."""
    graph = model.proto.graph
    types = tensor_types(model.proto, data_prop=True)
    known = constants(graph)
    names = [value.name for value in graph.input] + [name for node in graph.node for name in node.output if name]
    return tuple(
        name
        for name in names
        if name not in known and name in types and types[name].tensor_type.elem_type in _FLOATS
        if known_dims(types[name]) is not None
    )


def with_activations(model: OnnxModel, tensors: Sequence[str]) -> Tuple[bytes, Dict[str, Array]]:
    """An ONNX that gives out `tensors` too, and the large weights that it refers to but doesn't hold, by name.

    So it can be over 2 GiB, and needs no second copy of the model.

    Raises:
        ModelError: no tensor of the main graph has such a name.
        UnsupportedModelError: nobody can say the type or rank of a tensor, or it is over 2 GiB without those weights.
    """
    shown = with_extra_outputs(model.with_proto(without_weights(model.proto)), tensors)
    weights: Dict[str, Array] = {}
    for tensor, original in zip(shown.proto.graph.initializer, model.proto.graph.initializer):
        if is_large(original) and original.data_type in DTYPES:
            weights[tensor.name] = onnx.numpy_helper.to_array(original)
            refer(tensor, WEIGHTS_FILE, 0, weights[tensor.name].nbytes)
        elif is_large(original):
            tensor.CopyFrom(original)
    return shown.serialize(), weights


def content_digest(model: OnnxModel) -> str:
    """The SHA-256 of the graph as it is now, weights included; `digest` is that of the files it came from."""
    digest = hashlib.sha256(model.digest.encode())
    for part in (*model.proto.opset_import, *model.proto.functions, *_parts(model.proto.graph)):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _parts(graph: onnx.GraphProto) -> Tuple[object, ...]:
    return (*graph.input, *graph.output, *graph.node, *graph.initializer)
