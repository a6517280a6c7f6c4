"""Which nodes can run in FP16, and through which of their inputs and outputs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Collection, Dict, FrozenSet, Iterable, Mapping, Sequence, Set, Tuple

import numpy as np
import onnx
import onnx.defs
import onnx.numpy_helper

from edge_runtime.graph.check import opset_of
from edge_runtime.graph.inference import Types
from edge_runtime.graph.topology import constants, node_graphs

FP16_LARGEST = 65504.0
FP16_SMALLEST = 2.0**-14  # the smallest of full precision
STANDS_FOR_INFINITY = 1e9  # masks are filled with such values; they may as well be the largest of FP16

_STEPS = 128  # of a scale that its tensor can reach

# The type of their result is in an attribute, or they count and measure where FP16 has too few digits. In FP16
# QuantizeLinear truncates in ONNX Runtime 1.19, and later ones lose the bias of a convolution that it follows.
_FLOAT32 = frozenset(
    "Bernoulli Cast CastLike CumSum DynamicQuantizeLinear EyeLike GridSample LRN Multinomial NonMaxSuppression "
    "QuantizeLinear RandomNormalLike RandomUniformLike Range RoiAlign Shape Size".split()
)
# What squares, sums or divides overflows at 65504, and an epsilon added to it vanishes.
_SENSITIVE = frozenset(
    "Exp Log Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceProd ReduceSum "
    "ReduceSumSquare Softplus Sqrt".split()
)
# Too cheap to be worth two casts when all around them is float32.
_CHEAP = frozenset(
    "Abs Add Ceil Clip Concat Div Expand Floor Gather Max Min Mul Neg Reshape Round Slice Squeeze Sub Transpose "
    "Unsqueeze".split()
)
_FLOAT32_INPUTS = {"Resize": 1, "Upsample": 1}  # from this input on: scales


@dataclass(frozen=True)
class Ports:
    """The positions of the inputs and outputs of a node that turn from float32 to FP16."""

    inputs: FrozenSet[int]
    outputs: FrozenSet[int]


def half_ports(proto: onnx.ModelProto, types: Types, keep: Collection[int]) -> Dict[int, Ports]:
    """For each node (by its index) that is to run in FP16, what changes; those in `keep` stay float32."""
    graph = proto.graph
    known = constants(graph)
    narrow = {name for name, tensor in known.items() if not _fits(tensor)}
    found: Dict[int, Ports] = {}
    for index, node in enumerate(graph.node):
        if (
            index in keep
            or not all(name in types for name in node.input if name)  # what a plugin made may be of any type
            or node.domain
            or node.op_type in _FLOAT32 | _SENSITIVE
            or any(node_graphs(node))
            or _is_special(node, known)
        ):
            continue
        ports = _ports(node, onnx.defs.get_schema(node.op_type, opset_of(proto), ""), types)
        if ports.inputs and not any(node.input[position] in narrow for position in ports.inputs):
            found[index] = ports
    for chosen in (_dequantised_in_float32, _surrounded, _dequantised_for_float32):
        for index in chosen(graph, found):
            del found[index]
    return found


def _is_special(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a node squares, clips at one end only (the other would be 0 in FP16 in ONNX Runtime 1.19) or dequantises.

    Dequantising is done in FP16 by constants alone, of one dimension at most, and where FP16 can hold the result.
    """
    if node.op_type == "Clip":
        return len(node.input) < 3 or not all(node.input)
    if node.op_type == "DequantizeLinear":
        scale, *zero = (known.get(name) for name in node.input[1:] if name)
        return scale is None or None in zero or len(scale.dims) > 1 or not _fits(scale, FP16_LARGEST / _STEPS)
    return bool(node.op_type == "Mul" and node.input[0] == node.input[1])


def _ports(node: onnx.NodeProto, schema: onnx.defs.OpSchema, types: Types) -> Ports:
    """The float32 tensors of a node whose type variables allow FP16 and are bound by an input."""
    inputs = list(_half_parameters(node.input, schema.inputs, types))
    limit = _FLOAT32_INPUTS.get(node.op_type, len(node.input))
    bound = {variable for position, variable in inputs if position < limit}
    outputs = _half_parameters(node.output, schema.outputs, types)
    return Ports(
        frozenset(position for position, _ in inputs if position < limit),
        frozenset(position for position, variable in outputs if variable in bound),
    )


def _half_parameters(
    tensors: Iterable[str], parameters: Sequence[onnx.defs.OpSchema.FormalParameter], types: Types
) -> Iterable[Tuple[int, str]]:
    """Position and type variable of each float32 tensor that the schema would take in FP16 too."""
    for position, tensor in enumerate(tensors):
        kind = types.get(tensor)
        if kind is not None and kind.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            parameter = parameters[min(position, len(parameters) - 1)]
            if "tensor(float16)" in parameter.types and "tensor(float)" in parameter.types:
                yield position, parameter.type_str


def _fits(tensor: onnx.TensorProto, limit: float = np.inf) -> bool:
    """Whether a constant keeps its meaning in FP16: neither overflowing nor all lost below its precision."""
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return True
    values = np.abs(onnx.numpy_helper.to_array(tensor))
    largest = values[np.isfinite(values)].max(initial=0.0)
    fits = largest == 0 or FP16_SMALLEST <= largest <= FP16_LARGEST or largest >= STANDS_FOR_INFINITY
    return bool(fits and largest <= limit)


def _dequantised_in_float32(graph: onnx.GraphProto, half: Mapping[int, Ports]) -> Set[int]:
    """The FP16 nodes that read what is dequantised in float32: with a cast between, they wouldn't fuse to INT8."""
    nodes = enumerate(graph.node)
    wide = {node.output[0] for index, node in nodes if node.op_type == "DequantizeLinear" and index not in half}
    return {index for index in half if wide.intersection(graph.node[index].input)}


def _dequantised_for_float32(graph: onnx.GraphProto, half: Mapping[int, Ports]) -> Set[int]:
    """The FP16 nodes that dequantise for float32 nodes only."""
    users = _users(graph)
    return {
        index
        for index in half
        if graph.node[index].op_type == "DequantizeLinear" and not users[graph.node[index].output[0]] & half.keys()
    }


def _users(graph: onnx.GraphProto) -> Mapping[str, Set[int]]:
    """For each tensor the nodes of `graph` itself that read it."""
    users: Dict[str, Set[int]] = defaultdict(set)
    for index, node in enumerate(graph.node):
        for name in node.input:
            users[name].add(index)
    return users


def _surrounded(graph: onnx.GraphProto, half: Mapping[int, Ports]) -> Set[int]:
    """The cheap FP16 nodes that lie on paths between float32 nodes only."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    known = constants(graph)

    def is_float32(index: int | None, among: Set[int]) -> bool:
        return index is not None and (index not in half or index in among)

    after: Set[int] = set()
    for index, node in enumerate(graph.node):
        if index in half and node.op_type in _CHEAP:
            sources = {node.input[position] for position in half[index].inputs} - known.keys()
            if all(is_float32(makers.get(name), after) for name in sources):
                after.add(index)
    users = _users(graph)
    between: Set[int] = set()
    for index in sorted(after, reverse=True):
        if all(is_float32(user, between) for name in graph.node[index].output for user in users[name]):
            between.add(index)
    return between
