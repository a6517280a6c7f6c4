"""Operator sets: an old model raised to the lowest one that we emit, a newer one lowered as far as nothing changes."""

from __future__ import annotations

from typing import Iterator, List, Tuple

import onnx
import onnx.checker
import onnx.defs
import onnx.version_converter

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.check import first_line, opset_of
from edge_runtime.graph.inference import Types, tensor_types
from edge_runtime.graph.topology import all_nodes, constants, producers
from edge_runtime.graph.weights import is_large

LOWEST_OPSET = 13  # a Q/DQ of one scale per channel needs it
FP16_SCALE_OPSET = 19  # from here on a Q/DQ may have its scale in FP16

# These got new values of a text attribute, another default or another shape of an input under the same signature.
_CHANGED_SILENTLY = frozenset(
    {"GridSample", "GroupNormalization", "Pad", "Resize", "RoiAlign", "ScatterElements", "ScatterND"}
)

_CONVERSION_ERRORS = (onnx.version_converter.ConvertError, onnx.checker.ValidationError, RuntimeError, ValueError)


def at_lowest_opset(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model at the lowest opset from 13 up that carries it. It may be `proto` itself, changed.

    Raises:
        UnsupportedModelError: an operator of an old opset has no counterpart.
    """
    opset = LOWEST_OPSET
    if opset_of(proto) < LOWEST_OPSET:
        proto = _raised(proto, name, LOWEST_OPSET)
    else:
        opset = _lower(proto)
    _stamp(proto, opset)
    return proto


def at_least(proto: onnx.ModelProto, opset: int, name: str) -> onnx.ModelProto:
    """The model at `opset` or, if it is there already, at a later one. It may be `proto` itself, changed.

    Raises:
        UnsupportedModelError: an operator has no counterpart at `opset`.
    """
    if opset_of(proto) < opset:
        proto = _raised(proto, name, opset)
        _stamp(proto, opset)
    return proto


def _stamp(proto: onnx.ModelProto, opset: int) -> None:
    """Write the opset, and with it the IR version that TensorRT 8.5 (below opset 19) and 10 read."""
    others = [entry for entry in proto.opset_import if entry.domain]
    del proto.opset_import[:]
    proto.opset_import.add(domain="", version=opset)
    proto.opset_import.extend(others)
    proto.ir_version = 8 if opset < FP16_SCALE_OPSET else 10


def _lower(proto: onnx.ModelProto) -> int:
    """Drop the attributes that say nothing at the lowest opset, which is returned."""
    types = tensor_types(proto)
    standard = [node for node in all_nodes(proto.graph) if not node.domain]
    lowest = max([LOWEST_OPSET, *(_oldest_version(node, opset_of(proto), types) for node in standard)])
    for node in standard:
        known = onnx.defs.get_schema(node.op_type, lowest, "").attributes
        kept = [attribute for attribute in node.attribute if attribute.name in known]
        if len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)
    return lowest


def _raised(proto: onnx.ModelProto, name: str, opset: int) -> onnx.ModelProto:
    types = tensor_types(proto, data_prop=True)  # a Softmax over the last axis stays one node if its rank is known
    given_out = {value.name for value in proto.graph.output}
    for tensor in producers(proto.graph):
        if tensor in types and tensor not in given_out:
            proto.graph.value_info.add(name=tensor, type=types[tensor])
    weights = _weights_to_inputs(proto.graph, types)
    try:
        raised = onnx.version_converter.convert_version(proto, opset)
    except _CONVERSION_ERRORS as error:
        raise UnsupportedModelError(
            f"{name}: {_culprit(proto, types, opset)} can't be raised from opset {opset_of(proto)} to {opset} "
            f"({first_line(error)}); export the model with opset {opset} or later"
        ) from error
    del raised.graph.value_info[:]
    fed = [value for value in raised.graph.input if value.name not in {tensor.name for tensor in weights}]
    del raised.graph.input[:]
    raised.graph.input.extend(fed)
    raised.graph.initializer.extend(weights)
    return raised


def _weights_to_inputs(graph: onnx.GraphProto, types: Types) -> List[onnx.TensorProto]:
    """Make the large initializers graph inputs, and return them: the converter needn't copy what they hold."""
    large = [tensor for tensor in graph.initializer if is_large(tensor)]
    small = [tensor for tensor in graph.initializer if not is_large(tensor)]
    del graph.initializer[:]
    graph.initializer.extend(small)
    graph.input.extend(onnx.ValueInfoProto(name=tensor.name, type=types[tensor.name]) for tensor in large)
    return large


def _culprit(proto: onnx.ModelProto, types: Types, opset: int) -> str:
    """The first node that can't be converted on its own."""
    known = constants(proto.graph)
    for node in proto.graph.node:
        names = [name for name in node.input if name in types]
        graph = onnx.GraphProto(
            name=node.name,
            node=[node],
            input=[onnx.ValueInfoProto(name=name, type=types[name]) for name in names if name not in known],
            initializer=[known[name] for name in names if name in known],
            output=[onnx.ValueInfoProto(name=name, type=types.get(name)) for name in node.output if name],
        )
        single = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, graph=graph)
        try:
            onnx.version_converter.convert_version(single, opset)
        except _CONVERSION_ERRORS:
            return f"operator {node.op_type} ({node.name or node.output[0]!r})"
    return "the graph"


def _oldest_version(node: onnx.NodeProto, opset: int, types: Types) -> int:
    """The first opset from which on the operator means for this node what it means at `opset`."""
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    while schema.since_version > LOWEST_OPSET and node.op_type not in _CHANGED_SILENTLY:
        try:
            older = onnx.defs.get_schema(node.op_type, schema.since_version - 1, "")
        except onnx.defs.SchemaError:
            break
        if not _means_the_same(node, older, schema, types):
            break
        schema = older
    return int(schema.since_version)


def _means_the_same(node: onnx.NodeProto, older: onnx.defs.OpSchema, newer: onnx.defs.OpSchema, types: Types) -> bool:
    if not older.attributes.keys() <= newer.attributes.keys() or older.deprecated:
        return False
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, attribute in newer.attributes.items():
        default = attribute.default_value
        if name in older.attributes:
            same = name in given or older.attributes[name].default_value == default
        else:
            same = name not in given or given[name] == default
        if not same:
            return False
    counts = older.min_input <= len(node.input) <= older.max_input and len(node.output) <= older.max_output
    return counts and all(
        _type_text(types, tensor) in parameter.types for tensor, parameter in _parameters(node, older) if tensor
    )


def _parameters(
    node: onnx.NodeProto, schema: onnx.defs.OpSchema
) -> Iterator[Tuple[str, onnx.defs.OpSchema.FormalParameter]]:
    """Each input and output tensor with what the schema says about it; the last parameter may stand for many."""
    for tensors, parameters in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, tensor in enumerate(tensors):
            yield tensor, parameters[min(index, len(parameters) - 1)]


def _type_text(types: Types, tensor: str) -> str:
    """A tensor's type as a schema spells it, "" if it isn't known."""
    kind = types.get(tensor)
    if kind is None or not kind.tensor_type.elem_type:
        return ""
    return f"tensor({onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()})"
