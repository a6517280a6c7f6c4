"""Models that compute in double, brought to float32, which backends are made for."""

from __future__ import annotations

from typing import Dict

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.inference import contradiction, refresh_outputs, tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.source import all_tensors
from edge_runtime.graph.topology import FreeNames, all_graphs, all_nodes

_DOUBLE, _FLOAT = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT
_TYPE_ATTRIBUTES = frozenset({"dtype", "output_datatype", "output_dtype", "to"})


def single_precision(model: OnnxModel) -> OnnxModel:
    """The model with all double arithmetic in float32; its inputs and outputs keep their types, through casts.

    Tensors keep their names, but what is cast from an input or to an output has `_fp32` after its own. Constants beyond
    float32 become its largest finite or smallest normal number. A model without doubles is returned as it is.

    Raises:
        UnsupportedModelError: an operator has no float32 form here.
    """
    if not _computes_in_double(model.proto):
        return model
    proto = model.copied_proto()
    graph = proto.graph
    free = FreeNames(graph)
    fed = {value.name for value in graph.input}
    inputs = [value.name for value in graph.input if _is_double(value)]
    outputs = [value.name for value in graph.output if _is_double(value) and value.name not in fed]
    renamed = {name: free.take(f"{name}_fp32") for name in dict.fromkeys((*inputs, *outputs))}
    for tensor in all_tensors(proto):
        if tensor.data_type == _DOUBLE:
            tensor.CopyFrom(_single(tensor))
    for each in all_graphs(graph):
        _narrow(each, renamed, is_inner=each is not graph)
    casts = [_cast(name, renamed[name], _FLOAT, free) for name in inputs]
    nodes = [*casts, *graph.node, *(_cast(renamed[name], name, _DOUBLE, free) for name in outputs)]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_idle_casts(proto)
    refresh_outputs(proto, model.name)
    problem = contradiction(proto)
    if problem and not contradiction(model.proto):
        raise UnsupportedModelError(
            f"{model.name}: it computes in double and can't be brought to float32 ({problem}); export it in float32"
        )
    return model.with_proto(proto)


def _computes_in_double(proto: onnx.ModelProto) -> bool:
    return (
        any(map(_is_double, proto.graph.input))
        or any(tensor.data_type == _DOUBLE for tensor in all_tensors(proto))
        or any(_makes_double(attribute) for node in all_nodes(proto.graph) for attribute in node.attribute)
    )


def _is_double(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == _DOUBLE)


def _makes_double(attribute: onnx.AttributeProto) -> bool:
    return attribute.name in _TYPE_ATTRIBUTES and attribute.i == _DOUBLE


def _single(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = onnx.numpy_helper.to_array(tensor)
    limits = np.finfo(np.float32)
    size = np.clip(np.abs(values), limits.tiny, limits.max)
    within = np.where(np.isfinite(values) & (values != 0), np.copysign(size, values), values)
    return onnx.numpy_helper.from_array(within.astype(np.float32), tensor.name)


def _narrow(graph: onnx.GraphProto, renamed: Dict[str, str], is_inner: bool) -> None:
    """Write float32 for double into one graph, and new names into all but the main graph's inputs and outputs."""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if _makes_double(attribute):
                attribute.i = _FLOAT
            _narrow_type(attribute.tp)
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    del graph.value_info[:]
    for value in (*graph.input, *graph.output) if is_inner else ():
        value.name = renamed.get(value.name, value.name)
        _narrow_type(value.type)


def _narrow_type(kind: onnx.TypeProto) -> None:
    if kind.HasField("sequence_type"):
        _narrow_type(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        _narrow_type(kind.optional_type.elem_type)
    elif kind.tensor_type.elem_type == _DOUBLE:
        kind.tensor_type.elem_type = _FLOAT


def _cast(source: str, target: str, element: int, free: FreeNames) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], free.take(f"{target}_Cast"), to=element)


def _drop_idle_casts(proto: onnx.ModelProto) -> None:
    """Make casts from float32 to float32 what they are."""
    types = tensor_types(proto)
    for node in proto.graph.node:
        kind = types.get(node.input[0]) if node.op_type == "Cast" else None
        is_single = kind is not None and kind.tensor_type.elem_type == _FLOAT
        if is_single and any(attribute.name == "to" and attribute.i == _FLOAT for attribute in node.attribute):
            node.op_type = "Identity"
            del node.attribute[:]
