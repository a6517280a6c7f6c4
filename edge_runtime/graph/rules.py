"""Which inputs of which nodes are quantised: NVIDIA's rules for explicit Q/DQ networks.

Convolutions and matrix products take int8 inputs: activations with one scale, weights with one for each output channel.
An Add that joins a residual takes its other input in int8 too, for then it fuses with the convolution before it.
Everything else stays float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Tuple

import onnx

from edge_runtime.graph.axes import known_dims
from edge_runtime.graph.inference import Types, tensor_types
from edge_runtime.graph.topology import attribute_values, constants, names_captured, producers, readers

Users = Mapping[str, List[onnx.NodeProto]]

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("Gemm", "MatMul")


@dataclass(frozen=True)
class Edge:
    """One input of a node that is quantised; a constant may have a scale for each index of `axis`."""

    position: int
    tensor: str
    is_constant: bool = False
    axis: int | None = None


@dataclass(frozen=True)
class Site:
    """A node, known by its first output, and its quantised inputs.

    It stays float where the node with output `partner` does. `bias` is the constant that is added to its product.
    """

    output: str
    edges: Tuple[Edge, ...]
    partner: str = ""
    bias: str = ""

    @property
    def activations(self) -> List[str]:
        """The tensors that need a calibrated scale."""
        return [edge.tensor for edge in self.edges if not edge.is_constant]


@dataclass(frozen=True)
class _Facts:
    known: Mapping[str, onnx.TensorProto]
    types: Types
    makers: Mapping[str, onnx.NodeProto]

    def is_activation(self, tensor: str) -> bool:
        """Whether a tensor is float32, computed, of known rank and not quantised yet."""
        kind = self.types.get(tensor)
        maker = self.makers.get(tensor)
        return (
            tensor not in self.known
            and kind is not None
            and kind.tensor_type.elem_type == onnx.TensorProto.FLOAT
            and known_dims(kind) is not None
            and (maker is None or maker.op_type != "DequantizeLinear")
        )


def plan_sites(proto: onnx.ModelProto) -> List[Site]:
    """The nodes of the main graph to quantise, in its order."""
    types = tensor_types(proto, data_prop=True)
    facts = _Facts(constants(proto.graph), types, producers(proto.graph))
    users = readers(proto.graph)
    sites: List[Site] = []
    for node in proto.graph.node:
        if node.op_type in _CONVOLUTIONS + _PRODUCTS:
            edges = _operands(node, facts)
            if edges:
                sites.append(Site(node.output[0], edges, bias=_bias(node, facts, users)))
    return _with_residuals(proto.graph, sites, facts, users)


def _operands(node: onnx.NodeProto, facts: _Facts) -> Tuple[Edge, ...]:
    """The two factors of a convolution or product, or nothing if one of them can't be quantised."""
    edges = []
    for position, tensor in enumerate(node.input[:2]):
        constant = facts.known.get(tensor)
        if constant is None and facts.is_activation(tensor):
            edges.append(Edge(position, tensor))
        elif constant is not None and _is_weight(constant) and not (position == 0 and node.op_type in _CONVOLUTIONS):
            axis = _channel_axis(node, len(constant.dims)) if position == 1 else None
            edges.append(Edge(position, tensor, True, axis))
    complete = len(edges) == 2 and not all(edge.is_constant for edge in edges)
    return tuple(edges) if complete else ()


def _bias(node: onnx.NodeProto, facts: _Facts, users: Users) -> str:
    """The constant bias of a convolution or product; an Add after a MatMul counts, for it fuses."""
    candidates = list(node.input[2:])
    if node.op_type == "MatMul":
        candidates = [name for user in users[node.output[0]] if user.op_type == "Add" for name in user.input]
    return next((name for name in candidates if name in facts.known and _is_weight(facts.known[name])), "")


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == onnx.TensorProto.FLOAT and 0 not in tensor.dims)


def _channel_axis(node: onnx.NodeProto, rank: int) -> int | None:
    """The axis of a weight that counts output channels, None if one scale must do for all."""
    settings = attribute_values(node)
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":  # with groups, axis 1 counts the channels of one group only
        return 1 if settings.get("group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if settings.get("transB", 0) else 1
    return 1 if rank == 2 else None  # ONNX Runtime can't run a stack of matrices with a scale per column


def _with_residuals(graph: onnx.GraphProto, sites: List[Site], facts: _Facts, users: Users) -> List[Site]:
    by_output = {site.output: site for site in sites}
    pinned = names_captured(graph) | {value.name for value in graph.output}
    order = {
        output: index
        for index, (output, maker) in enumerate(facts.makers.items())
        if maker.op_type in _CONVOLUTIONS and output in by_output
        if len(users[output]) == 1 and output not in pinned
    }
    for node in graph.node:
        if node.op_type == "Add" and node.input[0] != node.input[1]:
            first, second = node.input
            main, other = (first, second) if order.get(first, -1) > order.get(second, -1) else (second, first)
            if main in order and facts.is_activation(other) and _same_shape(main, other, facts.types):
                edge = Edge(list(node.input).index(other), other)
                by_output[node.output[0]] = Site(node.output[0], (edge,), partner=main)
    return [by_output[output] for output in facts.makers if output in by_output]


def _same_shape(first: str, second: str, types: Types) -> bool:
    """Whether two tensors may have the same shape; one that is likely broadcast isn't a residual."""
    one, other = known_dims(types.get(first)), known_dims(types.get(second))
    return (
        one is not None
        and other is not None
        and len(one) == len(other)
        and all(
            a == b or (1 not in (a, b) and not (isinstance(a, int) and isinstance(b, int))) for a, b in zip(one, other)
        )
    )
