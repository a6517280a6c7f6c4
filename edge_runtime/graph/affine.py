"""Convolutions that take in what scales and shifts their channels next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Set, Tuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from edge_runtime.graph.topology import FreeNames, attribute_values, names_captured, readers

Values = npt.NDArray[np.float64]

_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}  # of the output channels in the weight


@dataclass(frozen=True)
class _Surroundings:
    """The constants of a graph, who reads its tensors, and the tensors that must stay."""

    known: Mapping[str, onnx.TensorProto]
    users: Mapping[str, List[onnx.NodeProto]]
    pinned: Set[str]


def fold_affine(graph: onnx.GraphProto) -> None:
    """Fold BatchNormalization and channelwise Add, Sub, Mul and Div by constants into the convolution before them.

    The result differs by float32 rounding only. Left alone they would lie between a convolution and the next Q/DQ,
    where neither ONNX Runtime nor TensorRT can fuse them any more.
    """
    around = _Surroundings(
        known={tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT},
        users=readers(graph),
        pinned=names_captured(graph) | {value.name for value in graph.output},
    )
    free = FreeNames(graph)
    with np.errstate(all="ignore"):  # a fold that isn't finite isn't made
        for conv in graph.node:
            if _is_foldable(conv, around.known):
                _fold(graph, conv, around, free)
    kept = [node for node in graph.node if node.output]
    del graph.node[:]
    graph.node.extend(kept)


def _fold(graph: onnx.GraphProto, conv: onnx.NodeProto, around: _Surroundings, free: FreeNames) -> None:
    """Give `conv` the weight, bias and output of itself and its followers, which are left without outputs."""
    weight = _values(around.known[conv.input[1]])
    axis = _CHANNEL_AXIS[conv.op_type]
    chain, scale, shift = _followers(conv, weight.shape[axis], weight.ndim, around)
    if not chain:
        return
    column = [-1 if index == axis else 1 for index in range(weight.ndim)]
    bias = _values(around.known[conv.input[2]]) if len(conv.input) > 2 and conv.input[2] else 0.0
    folded = (weight * scale.reshape(column)).astype(np.float32), (bias * scale + shift).astype(np.float32)
    if not all(np.isfinite(values).all() for values in folded):
        return
    conv.output[0] = chain[-1].output[0]
    names = [free.take(f"{conv.output[0]}_{role}") for role in ("weight", "bias")]
    graph.initializer.extend(map(onnx.numpy_helper.from_array, folded, names))
    conv.input[:] = [conv.input[0], *names]
    for node in chain:
        del node.output[:]


def _is_foldable(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type not in _CHANNEL_AXIS or not all(name in known for name in node.input[1:] if name):
        return False
    weight, *bias = (list(known[name].dims) for name in node.input[1:] if name)
    has_groups = node.op_type == "ConvTranspose" and attribute_values(node).get("group", 1) != 1
    return not has_groups and len(weight) > 2 and bias in ([], [[weight[_CHANNEL_AXIS[node.op_type]]]])


def _followers(
    conv: onnx.NodeProto, channels: int, rank: int, around: _Surroundings
) -> Tuple[List[onnx.NodeProto], Values, Values]:
    """The nodes that can be folded into `conv`, in order, and the one scale and shift that they amount to."""
    chain: List[onnx.NodeProto] = []
    scale, shift = np.ones(channels), np.zeros(channels)
    tensor = conv.output[0]
    while tensor not in around.pinned and len(around.users[tensor]) == 1:
        node = around.users[tensor][0]
        if node.op_type == "BatchNormalization":
            step = _batch_norm(node, tensor, around.known)
        else:
            step = _arithmetic(node, tensor, _channel_values(node, tensor, rank, around.known))
        if step is None or any(values.size not in (1, channels) for values in step):
            break
        scale, shift = scale * step[0], shift * step[0] + step[1]
        chain.append(node)
        tensor = node.output[0]
    return chain, scale, shift


def _batch_norm(
    node: onnx.NodeProto, tensor: str, known: Mapping[str, onnx.TensorProto]
) -> Tuple[Values, Values] | None:
    settings = attribute_values(node)
    if node.input[0] != tensor or len(node.output) > 1 or settings.get("training_mode", 0):
        return None
    if not all(name in known for name in node.input[1:]):
        return None
    gamma, beta, mean, variance = (_values(known[name]) for name in node.input[1:])
    if any(values.shape != (gamma.size,) for values in (gamma, beta, mean, variance)):
        return None
    scale = gamma / np.sqrt(variance + settings.get("epsilon", 1e-5))
    return scale, beta - mean * scale


def _channel_values(
    node: onnx.NodeProto, tensor: str, rank: int, known: Mapping[str, onnx.TensorProto]
) -> Values | None:
    """The constant that a two-input node combines with `tensor`, if it is one number or one a channel."""
    others = [name for name in node.input if name != tensor]
    if len(node.input) != 2 or len(others) != 1 or others[0] not in known:
        return None
    shape = tuple(known[others[0]].dims)
    padded = (1,) * (rank - len(shape)) + shape
    if len(padded) != rank or any(size != 1 for axis, size in enumerate(padded) if axis != 1):
        return None
    return _values(known[others[0]]).reshape(-1)


def _arithmetic(node: onnx.NodeProto, tensor: str, other: Values | None) -> Tuple[Values, Values] | None:
    if other is None:
        return None
    one, zero = np.ones(1), np.zeros(1)
    is_first = node.input[0] == tensor
    if node.op_type == "Add":
        return one, other
    if node.op_type == "Sub":
        return (one, -other) if is_first else (-one, other)
    if node.op_type == "Mul":
        return other, zero
    if node.op_type == "Div" and is_first and other.all():
        return 1.0 / other, zero
    return None


def _values(tensor: onnx.TensorProto) -> Values:
    return onnx.numpy_helper.to_array(tensor).astype(np.float64)
