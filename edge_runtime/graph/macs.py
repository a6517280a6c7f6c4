"""What a network costs in multiply-accumulates, and how much of it is int8."""

from __future__ import annotations

import math
from typing import Dict, FrozenSet, Iterator, Mapping, Sequence, Tuple

import onnx

from edge_runtime.errors import DataError
from edge_runtime.graph.axes import known_dims
from edge_runtime.graph.inference import tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.topology import attribute_values, constants, producers

Shapes = Mapping[str, Sequence[int]]

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BY_OUTPUT = frozenset({"Conv", "MatMul"})
_FACTORS = {  # which inputs' shapes count, besides the output's
    "Conv": slice(1, 2),
    "ConvTranspose": slice(2),
    "Einsum": slice(None),
    "Gemm": slice(2),
    "MatMul": slice(1),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), slice(3)),
}


def mac_tensors(model: OnnxModel) -> Tuple[str, ...]:
    """The tensors, inputs of the model among them, whose shapes `macs` needs; constants aren't."""
    known = constants(model.proto.graph)
    return tuple(dict.fromkeys(name for _, tensors in _counted(model) for name in tensors if name not in known))


def macs(model: OnnxModel, shapes: Shapes) -> Dict[str, int]:
    """The multiply-accumulates of each convolution, matrix product, einsum and recurrent net, by the node's name.

    `shapes` are those in one run of the tensors that `mac_tensors` lists. Nodes inside subgraphs aren't counted, nor
    those of which not even the ranks can be told; padding and sequences shorter than their batch's count in full.

    Raises:
        DataError: a shape is missing.
    """
    known = {name: tuple(tensor.dims) for name, tensor in constants(model.proto.graph).items()}
    found: Dict[str, int] = {}
    for node, tensors in _counted(model):
        for name in tensors:
            if name not in known and name not in shapes:
                raise DataError(f"{model.name}: the shape of tensor {name!r} is missing; give all of `mac_tensors`")
        found[node.name] = _count(node, [known[name] if name in known else tuple(shapes[name]) for name in tensors])
    return found


def _counted(model: OnnxModel) -> Iterator[Tuple[onnx.NodeProto, Tuple[str, ...]]]:
    types = tensor_types(model.proto, data_prop=True)
    for node in model.proto.graph.node:
        if node.op_type in _FACTORS:
            outputs = node.output[:1] if node.op_type in _BY_OUTPUT else []
            tensors = (*outputs, *node.input[_FACTORS[node.op_type]])
            if len(tensors) > 1 and all(known_dims(types.get(name)) is not None for name in tensors):
                yield node, tensors


def _count(node: onnx.NodeProto, shapes: Sequence[Sequence[int]]) -> int:
    first, second, *others = shapes
    if node.op_type == "Einsum":
        return _count_einsum(attribute_values(node)["equation"].decode(), shapes)
    if node.op_type == "MatMul":
        return math.prod(first) * second[-1]
    if node.op_type == "Gemm":
        return math.prod(first) * second[0 if attribute_values(node).get("transB", 0) else 1]
    if others:
        return first[0] * first[1] * (math.prod(second) + math.prod(others[0]))
    return math.prod(first) * math.prod(second[1:])


def _count_einsum(equation: str, shapes: Sequence[Sequence[int]]) -> int:
    """The product of the sizes of all letters; the axes that an ellipsis stands for are letters too."""
    sizes: Dict[str, int] = {}
    for term, shape in zip(equation.replace(" ", "").split("->")[0].split(","), shapes):
        others = len(shape) - len(term.replace("...", ""))
        letters = term.replace("...", "9876543210"[10 - others :])
        sizes.update((letter, max(size, sizes.get(letter, size))) for letter, size in zip(letters, shape))
    return math.prod(sizes.values())


def quantised_nodes(model: OnnxModel) -> FrozenSet[str]:
    """The names of the convolutions and matrix products of a Q/DQ graph both of whose factors are int8."""
    makers = producers(model.proto.graph)
    return frozenset(
        node.name
        for node in model.proto.graph.node
        if node.op_type in _PRODUCTS
        and all(name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2])
    )


def int8_share(model: OnnxModel, counts: Mapping[str, int]) -> float:
    """The share of convolutions' and matrix products' multiply-accumulates (`counts`, by node) that are in int8.

    0 if there are none. Recurrent layers and Einsum don't count: nobody runs them in int8.
    """
    products = {node.name for node in model.proto.graph.node if node.op_type in _PRODUCTS}
    total = sum(count for name, count in counts.items() if name in products)
    int8 = quantised_nodes(model)
    return sum(count for name, count in counts.items() if name in int8) / (total or 1)
