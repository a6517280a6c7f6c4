"""INT8 as Q/DQ nodes: one graph that ONNX Runtime and TensorRT both read."""

from __future__ import annotations

import math
from typing import Any, Dict, FrozenSet, List, Mapping, Tuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.errors import CalibrationError, ModelError, UnsupportedModelError
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.opset import LOWEST_OPSET
from edge_runtime.graph.rules import Edge, Site, plan_sites
from edge_runtime.graph.topology import FreeNames, attribute_values, constants, drop_unused_initializers

_LARGEST = 127  # symmetric: -128 is never used
_LARGEST_BIAS = 2**30  # of 2**31 in int32
_LARGEST_SCALE = 1e30
_SMALLEST_SCALE = np.finfo(np.float32).tiny


def quantizable(model: OnnxModel) -> Tuple[str, ...]:
    """The activations that need a scale, in the order in which the graph reads them first."""
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
    if model.opset < LOWEST_OPSET:
        raise UnsupportedModelError(
            f"{model.name}: INT8 with a scale per channel needs opset {LOWEST_OPSET}, got {model.opset}; "
            "make the model portable first"
        )
    proto = model.copied_proto()
    sites = _active_sites(proto, scales, exclude)
    pairs = _Pairs(model.name, proto.graph, scales)
    for site in sites:
        pairs.protect_bias(site)
    edges = {site.output: site.edges for site in sites}
    nodes: List[onnx.NodeProto] = []
    for node in proto.graph.node:
        for edge in edges.get(node.output[0], ()) if node.output else ():
            nodes.extend(pairs.missing(edge))
            node.input[edge.position] = pairs.dequantized[edge.tensor, edge.axis]
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(pairs.initializers)
    return model.with_proto(proto)


def _active_sites(proto: onnx.ModelProto, scales: Mapping[str, float], exclude: FrozenSet[str]) -> List[Site]:
    names = {node.output[0]: node.name for node in proto.graph.node if node.output}
    active: Dict[str, Site] = {}
    for site in plan_sites(proto):
        has_partner = not site.partner or site.partner in active
        if has_partner and names[site.output] not in exclude and all(name in scales for name in site.activations):
            active[site.output] = site
    return list(active.values())


class _Pairs:
    """The Q/DQ pairs of a graph: one for each tensor (and channel axis), made when first asked for."""

    def __init__(self, model: str, graph: onnx.GraphProto, scales: Mapping[str, float]) -> None:
        self.dequantized: Dict[Tuple[str, int | None], str] = {}
        self.initializers: List[onnx.TensorProto] = []
        self._model = model
        self._known = constants(graph)
        self._free = FreeNames(graph)
        self._scales = scales
        self._floors: Dict[Tuple[str, int | None], Any] = {}

    def protect_bias(self, site: Site) -> None:
        """Keep weight scales so large that the bias in steps of input scale x weight scale fits into int32.

        Backends quantise the float bias in such steps: one of a nearly dead channel would overflow, unnoticed.
        """
        first, *others = site.edges
        if not site.bias or first.is_constant or not others[0].is_constant:
            return
        edge = others[0]
        bias = np.abs(self._finite(site.bias).astype(np.float64))
        bias = bias.reshape(-1, bias.shape[-1]).max(axis=0) if bias.ndim else bias
        if edge.axis is None or bias.size not in (1, self._known[edge.tensor].dims[edge.axis]):
            bias = bias.max()
        floor = np.minimum(bias / self._activation_scale(first.tensor) / _LARGEST_BIAS, _LARGEST_SCALE)
        key = (edge.tensor, edge.axis)
        self._floors[key] = np.maximum(self._floors.get(key, _SMALLEST_SCALE), floor)

    def missing(self, edge: Edge) -> List[onnx.NodeProto]:
        """The nodes that make `dequantized[edge.tensor, edge.axis]`, none if they were given out before."""
        key = (edge.tensor, edge.axis)
        if key in self.dequantized:
            return []
        scale = self._weight_scale(edge) if edge.is_constant else self._activation_scale(edge.tensor)
        parameters = [
            self._initializer(f"{edge.tensor}_scale", scale),
            self._initializer(f"{edge.tensor}_zero_point", np.zeros(scale.shape, np.int8)),
        ]
        quantized, dequantized = (self._free.take(f"{edge.tensor}_{suffix}") for suffix in ("int8", "dequantized"))
        self.dequantized[key] = dequantized
        axis: Dict[str, Any] = {} if edge.axis is None else {"axis": edge.axis}
        return [
            self._node("QuantizeLinear", [edge.tensor, *parameters], quantized, axis),
            self._node("DequantizeLinear", [quantized, *parameters], dequantized, axis),
        ]

    def _node(self, op_type: str, inputs: List[str], output: str, axis: Dict[str, Any]) -> onnx.NodeProto:
        return onnx.helper.make_node(op_type, inputs, [output], self._free.take(f"{output}_{op_type}"), **axis)

    def _initializer(self, wish: str, values: npt.NDArray[Any]) -> str:
        name = self._free.take(wish)
        self.initializers.append(onnx.numpy_helper.from_array(values, name))
        return name

    def _activation_scale(self, tensor: str) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):
            scale = np.array(self._scales[tensor], np.float32)
        if not (math.isfinite(scale) and scale > 0):
            raise CalibrationError(
                f"{self._model}: the scale of tensor {tensor!r} is {self._scales[tensor]}; "
                "expected a positive float32; calibrate again with samples that reach this tensor"
            )
        return scale

    def _weight_scale(self, edge: Edge) -> npt.NDArray[np.float32]:
        values = self._finite(edge.tensor)
        others = tuple(axis for axis in range(values.ndim) if axis != edge.axis)
        scale = np.abs(values).max(axis=None if edge.axis is None else others) / np.float32(_LARGEST)
        harmless = scale.max() if scale.max() >= _SMALLEST_SCALE else 1.0
        scale = np.where(scale < _SMALLEST_SCALE, harmless, scale)
        floor = self._floors.get((edge.tensor, edge.axis), _SMALLEST_SCALE)
        return np.asarray(np.maximum(scale, floor), np.float32)

    def _finite(self, tensor: str) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = onnx.numpy_helper.to_array(self._known[tensor])
        if not np.isfinite(values).all():
            raise ModelError(f"{self._model}: weight {tensor!r} holds NaN or infinity; export a sound model")
        return values


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
        if _is_foldable(node, known) and node.output[0] not in given_out:
            values = _quantized(node, *(onnx.numpy_helper.to_array(known[name]) for name in node.input))
            graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused_initializers(graph)
    return model.with_proto(proto)


def _is_foldable(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type != "QuantizeLinear" or len(node.input) != 3 or not all(name in known for name in node.input):
        return False
    values, scale, zero = (known[name] for name in node.input)
    is_plain = values.data_type == scale.data_type == onnx.TensorProto.FLOAT and len(scale.dims) < 2
    return is_plain and bool(zero.data_type == onnx.TensorProto.INT8)


def _quantized(
    node: onnx.NodeProto, values: npt.NDArray[Any], scale: npt.NDArray[Any], zero: npt.NDArray[Any]
) -> npt.NDArray[np.int8]:
    """ONNX's QuantizeLinear: round half to even, then saturate."""
    column = [1] * values.ndim
    if scale.size > 1:
        column[attribute_values(node).get("axis", 1)] = -1
    steps = np.rint(values / scale.reshape(column)) + zero.reshape(column).astype(np.float32)
    return np.asarray(np.clip(steps, -128, 127), np.int8)
