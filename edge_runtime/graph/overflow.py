"""Which nodes leave the range of FP16, by the ranges that their activations were seen to have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Set

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from edge_runtime.graph.axes import known_dims
from edge_runtime.graph.inference import Types, tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.precision import FP16_LARGEST, FP16_SMALLEST, STANDS_FOR_INFINITY
from edge_runtime.graph.topology import attribute_values, constants
from edge_runtime.tensors import element_count

MARGIN = 4.0  # other inputs may reach further than the samples did

# They sum squares of what they read.
_SQUARES = frozenset(
    "GroupNormalization InstanceNormalization LayerNormalization LpNormalization LpPool MeanVarianceNormalization "
    "RMSNormalization".split()
)
# What stands for infinity still does after them.
_MASKING = frozenset(
    "Add Cast Clip Concat Div Expand Flatten Gather Identity Max Min Mul Neg Pad Reshape ScatterND Slice Split Squeeze "
    "Sub Tile Transpose Unsqueeze Where".split()
)


def overflowing(model: OnnxModel, ranges: Mapping[str, float]) -> Dict[str, str]:
    """The nodes of a float32 model (their names, or first outputs) that FP16 can't compute, each with the reason.

    `ranges` has the largest magnitudes of tensors; what isn't in it is taken to be small. A node is named where

    - what it reads or makes exceeds 65504 / 4, for samples needn't show the largest, or is NaN;
    - all that it makes or reads of one tensor is below 2**-14, where FP16 has less than its full precision;
    - what it sums inside may exceed 65504: in products with constants, input range x sum of |weights|; in products of
      activations, both ranges x the root of the number of terms; the squares in a normalisation and the sum of an
      average with a margin of 4; the number of terms of a softmax.

    Masks made of constants of 1e9 and more stand for infinity and are no overflow.
    """
    proto = model.proto
    found = excesses(proto, tensor_types(proto), ranges)
    nodes = proto.graph.node
    return {nodes[index].name or nodes[index].output[0]: reason for index, reason in found.items()}


def fits_in_fp16(value: float) -> bool:
    """Whether a tensor of this range (NaN: no) keeps its meaning in FP16, with a margin for values not seen."""
    return value == 0 or FP16_SMALLEST <= value <= FP16_LARGEST / MARGIN


def excesses(proto: onnx.ModelProto, types: Types, ranges: Mapping[str, float]) -> Dict[int, str]:
    """For each node that FP16 can't compute (by its index) the reason; nothing without `ranges`."""
    if not ranges:
        return {}
    graph = proto.graph
    facts = _Facts(constants(graph), types, dict(ranges))
    masks = {name for name, tensor in facts.known.items() if _is_mask(tensor)}
    found: Dict[int, str] = {}
    for index, node in enumerate(graph.node):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in facts.ranges:
            facts.ranges.setdefault(node.output[0], facts.ranges[node.input[0]])
        if node.op_type in _MASKING and masks.intersection(node.input):
            masks.update(node.output)
        reason = next(_reasons(node, facts, masks), "")
        if reason:
            found[index] = reason
    return found


@dataclass(frozen=True)
class _Facts:
    known: Mapping[str, onnx.TensorProto]
    types: Types
    ranges: Dict[str, float]

    def range_of(self, tensor: str) -> float:
        return self.ranges.get(tensor, 0.0)

    def size(self, tensor: str, axis: int) -> int:
        """The size of an axis, 1 if it isn't known."""
        dims = known_dims(self.types.get(tensor)) or []
        size = dims[axis] if -len(dims) <= axis < len(dims) else None
        return size if isinstance(size, int) else 1


def _is_mask(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    values = onnx.numpy_helper.to_array(tensor)
    return bool((np.abs(values) >= STANDS_FOR_INFINITY).any())


def _reasons(node: onnx.NodeProto, facts: _Facts, masks: Set[str]) -> Iterator[str]:
    for role, names in (("input", node.input), ("output", node.output)):
        for name in names:
            value = facts.range_of(name)
            if not fits_in_fp16(value) and not (name in masks and value >= STANDS_FOR_INFINITY):
                yield f"{role} {name!r} reaches {value:.3g}"
    inside = _INSIDE.get(node.op_type)
    largest = inside(node, facts) if inside else 0.0
    if largest > FP16_LARGEST:
        yield f"its sums may reach {largest:.3g}"


def _squares(node: onnx.NodeProto, facts: _Facts) -> float:
    return MARGIN * facts.range_of(node.input[0]) ** 2


def _average(node: onnx.NodeProto, facts: _Facts) -> float:
    window = attribute_values(node).get("kernel_shape")
    if window is None:
        rank = len(known_dims(facts.types.get(node.input[0])) or [])
        window = [facts.size(node.input[0], axis) for axis in range(2, rank)]
    return MARGIN * facts.range_of(node.output[0]) * element_count(window)


def _softmax(node: onnx.NodeProto, facts: _Facts) -> float:
    return float(facts.size(node.input[0], attribute_values(node).get("axis", -1)))


def _product(node: onnx.NodeProto, facts: _Facts) -> float:
    first, second = node.input[:2]
    for constant, other, position in ((second, first, 1), (first, second, 0)):
        if constant in facts.known:
            return facts.range_of(other) * _weight_sum(
                node, onnx.numpy_helper.to_array(facts.known[constant]), position
            )
    terms = 1 if node.op_type in ("Conv", "ConvTranspose") else facts.size(first, -1)
    return facts.range_of(first) * facts.range_of(second) * math.sqrt(terms)


def _weight_sum(node: onnx.NodeProto, weights: npt.NDArray[Any], position: int) -> float:
    """The largest sum of |weights| over what one number of the output is summed from."""
    settings = attribute_values(node)
    axes = tuple(range(1, weights.ndim))
    if node.op_type == "ConvTranspose":
        groups = settings.get("group", 1)
        weights = weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)
        axes = (1, 3)
    elif node.op_type == "MatMul":
        axes = (max(weights.ndim - 1 - position, 0),)
    elif node.op_type == "Gemm":
        is_turned = settings.get("transB" if position else "transA", 0)
        axes = (1 if bool(is_turned) == bool(position) else 0,)
    elif node.op_type in ("GRU", "LSTM", "RNN"):
        axes = (weights.ndim - 1,)
    return float(np.abs(weights).sum(axis=axes, dtype=np.float64).max(initial=0.0))


_INSIDE: Dict[str, Callable[[onnx.NodeProto, _Facts], float]] = {
    **dict.fromkeys(_SQUARES, _squares),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), _average),
    **dict.fromkeys(("LogSoftmax", "Softmax"), _softmax),
    **dict.fromkeys(("Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"), _product),
}
