"""INT8 as Q/DQ nodes: one graph that ONNX Runtime and TensorRT both read."""

from __future__ import annotations

from typing import AbstractSet, Any, Callable, Dict, FrozenSet, List, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.errors import UnsupportedModelError
from edge_runtime.graph.int8_scales import Scales
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.opset import LOWEST_OPSET
from edge_runtime.graph.rules import Edge, Site, plan_sites
from edge_runtime.graph.topology import FreeNames, attribute_values, constants, drop_unused_initializers

Supply = Tuple[List[onnx.NodeProto], str]  # nodes to insert, and the tensor that they make


def quantizable(model: OnnxModel) -> Tuple[str, ...]:
    """The activations that need a scale, in the order in which the graph reads them first.

    There are none in a model that computes in another type than float32, or without convolutions and matrix products.
    """
    return tuple(dict.fromkeys(tensor for site in plan_sites(model.proto) for tensor in site.activations))


def insert_qdq(model: OnnxModel, scales: Mapping[str, float], exclude: FrozenSet[str] = frozenset()) -> OnnxModel:
    """The model with int8 inputs of its convolutions and matrix products, and of Adds that join a residual.

    `scales` has those of activations (amax / 127); weights are quantised in the graph, from float32, with one scale for
    each output channel. The nodes named in `exclude` and those that read an activation without a scale stay float.

    Raises:
        CalibrationError: a scale isn't a positive float32.
        ModelError: a weight is NaN or infinite.
        UnsupportedModelError: the opset is below 13; `portable` raises it.
    """
    proto = model.copied_proto()
    sites = active_sites(model, scales, exclude)
    pairs = Pairs(FreeNames(proto.graph), Scales(model.name, proto.graph, sites, scales))
    replace_inputs(proto.graph, sites, lambda _, edge: pairs.dequantized(edge))
    proto.graph.initializer.extend(pairs.initializers)
    return model.with_proto(proto)


def active_sites(model: OnnxModel, scales: Mapping[str, float], exclude: AbstractSet[str]) -> List[Site]:
    """The sites that `insert_qdq` quantises.

    Raises:
        UnsupportedModelError: the opset is below 13.
    """
    if model.opset < LOWEST_OPSET:
        raise UnsupportedModelError(
            f"{model.name}: INT8 with a scale per channel needs opset {LOWEST_OPSET}, got {model.opset}; "
            "make the model portable first"
        )
    names = {node.output[0]: node.name for node in model.proto.graph.node if node.output}
    active: Dict[str, Site] = {}
    for site in plan_sites(model.proto):
        has_partner = not site.partner or site.partner in active
        if has_partner and names[site.output] not in exclude and all(name in scales for name in site.activations):
            active[site.output] = site
    return list(active.values())


def replace_inputs(
    graph: onnx.GraphProto, sites: Sequence[Site], supply: Callable[[onnx.NodeProto, Edge], Supply]
) -> None:
    """Let the nodes of `sites` read on each edge what `supply` says, with the nodes that it adds right before."""
    edges = {site.output: site.edges for site in sites}
    nodes: List[onnx.NodeProto] = []
    for node in graph.node:
        for edge in edges.get(node.output[0], ()) if node.output else ():
            added, node.input[edge.position] = supply(node, edge)
            nodes.extend(added)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


class Pairs:
    """The Q/DQ pairs of a graph: one for each tensor (and channel axis), made when first asked for."""

    def __init__(self, free: FreeNames, scales: Scales) -> None:
        self.initializers: List[onnx.TensorProto] = []
        self._free = free
        self._scales = scales
        self._made: Dict[Tuple[str, int | None], str] = {}

    def dequantized(self, edge: Edge) -> Supply:
        """The name of an input after Q/DQ, and the nodes that make it unless they were given out before."""
        key = (edge.tensor, edge.axis)
        if key in self._made:
            return [], self._made[key]
        scale = self._scales.of(edge)
        parameters = [
            self._initializer(f"{edge.tensor}_scale", scale),
            self._initializer(f"{edge.tensor}_zero_point", np.zeros(scale.shape, np.int8)),
        ]
        quantized, self._made[key] = (self._free.take(f"{edge.tensor}_{suffix}") for suffix in ("int8", "dequantized"))
        axis: Dict[str, Any] = {} if edge.axis is None else {"axis": edge.axis}
        return [
            self._node("QuantizeLinear", [edge.tensor, *parameters], quantized, axis),
            self._node("DequantizeLinear", [quantized, *parameters], self._made[key], axis),
        ], self._made[key]

    def _node(self, op_type: str, inputs: List[str], output: str, axis: Dict[str, Any]) -> onnx.NodeProto:
        return onnx.helper.make_node(op_type, inputs, [output], self._free.take(f"{output}_{op_type}"), **axis)

    def _initializer(self, wish: str, values: npt.NDArray[Any]) -> str:
        name = self._free.take(wish)
        self.initializers.append(onnx.numpy_helper.from_array(values, name))
        return name


def rounded_values(values: npt.NDArray[Any], scale: npt.NDArray[Any], axis: int | None) -> npt.NDArray[np.float32]:
    """What is left of float32 values after a Q/DQ pair with zero point 0."""
    column = _column(scale, axis, values.ndim)
    return np.asarray(_int8(values, column, np.zeros_like(column)).astype(np.float32) * column, np.float32)


def _int8(values: npt.NDArray[Any], scale: npt.NDArray[Any], zero: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """ONNX's QuantizeLinear: round half to even, then saturate."""
    with np.errstate(over="ignore"):
        return np.asarray(np.clip(np.rint(values / scale) + zero.astype(np.float32), -128, 127), np.int8)


def _column(parameter: npt.NDArray[Any], axis: int | None, rank: int) -> npt.NDArray[Any]:
    """A scale or zero point so shaped that it broadcasts against values of this rank."""
    shape = [1] * rank
    if axis is not None and parameter.size > 1:
        shape[axis] = -1
    return parameter.reshape(shape)


def fold_weights(model: OnnxModel) -> OnnxModel:
    """The same model with the quantised constants stored as int8: a quarter of the size, the same numbers.

    TensorRT 8.0 to 8.2 can't read this form: they need the float32 weights that `insert_qdq` leaves.
    """
    proto = model.copied_proto()
    graph = proto.graph
    known = constants(graph)
    given_out = {value.name for value in graph.output}
    kept: List[onnx.NodeProto] = []
    for node in graph.node:
        values = None if node.output[:1] and node.output[0] in given_out else _stored(node, known)
        if values is None:
            kept.append(node)
        else:
            graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused_initializers(graph)
    return model.with_proto(proto)


def _stored(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> npt.NDArray[np.int8] | None:
    """The int8 values of a QuantizeLinear over constants, None for other nodes and unsound ones."""
    if node.op_type != "QuantizeLinear" or len(node.input) != 3 or not all(name in known for name in node.input):
        return None
    tensors = [known[name] for name in node.input]
    if [tensor.data_type for tensor in tensors] != [*[onnx.TensorProto.FLOAT] * 2, onnx.TensorProto.INT8]:
        return None
    values, scale, zero = map(onnx.numpy_helper.to_array, tensors)
    axis = attribute_values(node).get("axis", 1)
    is_single = scale.size == zero.size == 1
    if not is_single and not (scale.ndim == zero.ndim == 1 and _has_axis(values, axis, scale.size, zero.size)):
        return None
    if not (np.isfinite(values).all() and np.isfinite(scale).all() and (scale > 0).all()):
        return None
    return _int8(values, _column(scale, axis, values.ndim), _column(zero, axis, values.ndim))


def _has_axis(values: npt.NDArray[Any], axis: int, *sizes: int) -> bool:
    return -values.ndim <= axis < values.ndim and {values.shape[axis]} == set(sizes)
