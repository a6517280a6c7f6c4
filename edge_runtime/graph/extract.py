"""Parts of a model as models of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List

import onnx
import onnx.helper

from edge_runtime.graph.inference import tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.topology import constants, node_graphs

_LARGE_NBYTES = 64 << 20


@dataclass(frozen=True)
class SingleNode:
    """One node as an ONNX file: its inputs are the file's inputs, but for constants."""

    name: str
    operator: str
    onnx: bytes


def single_nodes(model: OnnxModel) -> Iterator[SingleNode]:
    """Each node of the main graph alone, but for those with subgraphs, untyped inputs or weights over 64 MiB."""
    types = tensor_types(model.proto)
    known = constants(model.proto.graph)
    for node in model.proto.graph.node:
        names = [name for name in dict.fromkeys(node.input) if name]
        weights = [_named(known[name], name) for name in names if name in known]
        fed = [name for name in names if name not in known]
        if list(node_graphs(node)) or any(name not in types for name in fed) or node.op_type == "Constant":
            continue
        if sum(tensor.ByteSize() for tensor in weights) > _LARGE_NBYTES:
            continue
        inputs = [onnx.helper.make_value_info(name, types[name]) for name in fed]
        outputs = [onnx.ValueInfoProto(name=name, type=types.get(name)) for name in node.output if name]
        yield SingleNode(node.name, node.op_type, _serialized(model, node, inputs, outputs, weights))


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """A constant as an initializer; that of a `Constant` node may have no name."""
    if tensor.name == name:
        return tensor
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _serialized(
    model: OnnxModel,
    node: onnx.NodeProto,
    inputs: List[onnx.ValueInfoProto],
    outputs: List[onnx.ValueInfoProto],
    weights: List[onnx.TensorProto],
) -> bytes:
    graph = onnx.helper.make_graph([node], node.name or node.op_type, inputs, outputs, weights)
    single = onnx.helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=model.ir_version)
    return bytes(single.SerializeToString())
