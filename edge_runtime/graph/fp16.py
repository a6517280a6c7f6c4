"""FP16 written into the graph, as strongly typed TensorRT wants it."""

from __future__ import annotations

from typing import Any, Collection, Dict, FrozenSet, List, Literal, Mapping, Set, Tuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.graph.half_scales import round_scales
from edge_runtime.graph.inference import Types, refresh_outputs, tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.opset import FP16_SCALE_OPSET, at_least
from edge_runtime.graph.overflow import excesses, fits_in_fp16
from edge_runtime.graph.precision import FP16_LARGEST, Ports, half_ports
from edge_runtime.graph.topology import FreeNames, constants, drop_unused_initializers, names_captured, producers

FloatIO = Literal["fp32", "fp16"]

_UNTYPED = ("Cast", "Shape", "Size")  # they read any data type


def to_fp16(
    model: OnnxModel,
    keep: FrozenSet[str] = frozenset(),
    ranges: Mapping[str, float] | None = None,
    io: FloatIO = "fp32",
) -> OnnxModel:
    """The model with weights and activations in FP16.

    Nodes named in `keep` stay float32, and so do those with subgraphs, those that square or sum, those with a constant
    outside FP16's range, and with `ranges` (the largest magnitudes of activations) those that `overflowing` names.
    Constants of 1e9 and more stand for infinity (masks): they become the largest FP16.

    With `io` "fp32" inputs and outputs keep their types, through casts. With "fp16" the float32 ones become FP16, but
    not those whose range FP16 can't hold, that a subgraph reads, or that are constant.

    A model with Q/DQ gets opset 19, where DequantizeLinear can make FP16; QuantizeLinear takes float32, through a cast.
    Nodes with an input whose scales are all below 2**-14, or of which one is above 511, stay float32.

    Raises:
        UnsupportedModelError: an operator beside Q/DQ can't be raised to opset 19.
    """
    proto = model.copied_proto()
    if any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
        proto = at_least(proto, FP16_SCALE_OPSET, model.name)
    graph = proto.graph
    types = tensor_types(proto)
    kept = {index for index, node in enumerate(graph.node) if node.name in keep}
    half = half_ports(proto, types, kept | excesses(proto, types, ranges or {}).keys())
    edges = _half_edges(graph, ranges or {}) if io == "fp16" else set()
    if not half and not edges:
        return model
    round_scales(graph, {graph.node[i].input[1] for i in half if graph.node[i].op_type == "DequantizeLinear"})
    typed = _TypedGraph(graph, types, edges)
    for index, node in enumerate(graph.node):
        typed.add(node, half.get(index, Ports(frozenset(), frozenset())))
    del graph.node[:]
    graph.node.extend(typed.nodes)
    graph.initializer.extend(typed.initializers)
    for value in (*graph.input, *graph.output):
        if value.name in edges:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    drop_unused_initializers(graph)
    refresh_outputs(proto, model.name)
    return model.with_proto(proto)


def float32_nodes(model: OnnxModel, ranges: Mapping[str, float] | None = None) -> Tuple[str, ...]:
    """The nodes that `to_fp16` leaves in float32, for a library that is told so by name.

    Of nodes that make no float32 none is named, nor any where everything stays float32.
    """
    types = tensor_types(model.proto)
    half = half_ports(model.proto, types, set(excesses(model.proto, types, ranges or {})))
    if not half:
        return ()
    made = {index: [types.get(name) for name in node.output] for index, node in enumerate(model.proto.graph.node)}
    return tuple(
        node.name
        for index, node in enumerate(model.proto.graph.node)
        if index not in half and any(map(_is_float32, made[index]))
    )


def _is_float32(kind: onnx.TypeProto | None) -> bool:
    return kind is not None and bool(kind.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _half_edges(graph: onnx.GraphProto, ranges: Mapping[str, float]) -> Set[str]:
    """The float32 inputs and outputs that can be FP16."""
    makers = producers(graph)
    values = [*graph.input, *(value for value in graph.output if value.name in makers)]
    float32 = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return {name for name in float32 - names_captured(graph) if fits_in_fp16(ranges.get(name, 0.0))}


class _TypedGraph:
    """A graph under construction, where each reader of a tensor gets it in the type that it wants.

    A tensor keeps its name: in FP16 if the node that makes it runs so, but in float32 if it is a graph output or a
    subgraph reads it, unless it is one of the FP16 `edges`. The other type gets a new name, and one cast serves all
    who want it.
    """

    def __init__(self, graph: onnx.GraphProto, types: Types, edges: Collection[str]) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.initializers: List[onnx.TensorProto] = []
        self._known = constants(graph)
        self._edges = set(edges)
        self._float32 = (names_captured(graph) | {value.name for value in graph.output}) - self._edges
        self._free = FreeNames(graph)
        self._is_half: Set[str] = {value.name for value in graph.input} & self._edges
        self._halves: Dict[str, str] = {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Cast" and _is_widening(types.get(node.input[0]), types.get(node.output[0]))
        }
        self._singles: Dict[str, str] = {}

    def add(self, node: onnx.NodeProto, ports: Ports) -> None:
        """Append a node whose `ports` are FP16 and whose other floating-point tensors are float32."""
        for position, name in enumerate(node.input):
            if position in ports.inputs:
                node.input[position] = self._half(name)
            elif name in self._is_half and (node.op_type not in _UNTYPED or name in self._singles):
                node.input[position] = self._single(name)
        self.nodes.append(node)
        for position, name in enumerate(node.output):
            if position not in ports.outputs:
                if name in self._edges:
                    self._singles[name] = node.output[position] = self._free.take(f"{name}_fp32")
                    self._cast(node.output[position], name, onnx.TensorProto.FLOAT16)
                    self._is_half.add(name)
            elif name in self._float32:
                self._halves[name] = node.output[position] = self._free.take(f"{name}_fp16")
                self._cast(node.output[position], name, onnx.TensorProto.FLOAT)
            else:
                self._is_half.add(name)

    def _half(self, name: str) -> str:
        if name in self._is_half:
            return name
        if name not in self._halves:
            self._halves[name] = self._free.take(f"{name}_fp16")
            if name in self._known:
                values = _saturated(onnx.numpy_helper.to_array(self._known[name]))
                self.initializers.append(onnx.numpy_helper.from_array(values, self._halves[name]))
            else:
                self._cast(name, self._halves[name], onnx.TensorProto.FLOAT16)
        return self._halves[name]

    def _single(self, name: str) -> str:
        if name not in self._singles:
            self._singles[name] = self._free.take(f"{name}_fp32")
            self._cast(name, self._singles[name], onnx.TensorProto.FLOAT)
        return self._singles[name]

    def _cast(self, source: str, target: str, element: int) -> None:
        self.nodes.append(
            onnx.helper.make_node("Cast", [source], [target], self._free.take(f"{target}_Cast"), to=element)
        )


def _is_widening(source: onnx.TypeProto | None, target: onnx.TypeProto | None) -> bool:
    elements = [kind.tensor_type.elem_type for kind in (source, target) if kind is not None]
    return elements == [onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT]


def _saturated(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    finite = np.clip(values, -FP16_LARGEST, FP16_LARGEST)
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return np.where(np.isinf(values), values, finite).astype(np.float16)
