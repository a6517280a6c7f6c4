"""FP16 written into the graph, as strongly typed TensorRT wants it."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Set

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.graph.inference import refresh_outputs
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.precision import FP16_LARGEST, Ports, half_ports
from edge_runtime.graph.topology import FreeNames, constants, drop_unused_initializers, names_captured

_UNTYPED = ("Shape", "Size")  # they read any data type


def to_fp16(model: OnnxModel, keep: FrozenSet[str] = frozenset()) -> OnnxModel:
    """The model with weights and activations in FP16; its inputs and outputs keep their types, through casts.

    Nodes named in `keep` stay float32, and so do those with subgraphs, those that square or sum, and those with a
    constant outside FP16's range. Constants of 1e9 and more stand for infinity (masks): they become the largest FP16.
    """
    proto = model.copied_proto()
    graph = proto.graph
    half = half_ports(proto, keep)
    typed = _TypedGraph(graph)
    for index, node in enumerate(graph.node):
        typed.add(node, half.get(index, Ports(frozenset(), frozenset())))
    del graph.node[:]
    graph.node.extend(typed.nodes)
    graph.initializer.extend(typed.initializers)
    drop_unused_initializers(graph)
    refresh_outputs(proto, model.name)
    return model.with_proto(proto)


class _TypedGraph:
    """A graph under construction, where each reader of a tensor gets it in the type that it wants.

    A tensor keeps its name: in FP16 if the node that makes it runs so, but in float32 if it is a graph output or a
    subgraph reads it. The other type gets a new name, and one cast serves all who want it.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.initializers: List[onnx.TensorProto] = []
        self._known = constants(graph)
        self._float32 = names_captured(graph) | {value.name for value in graph.output}
        self._free = FreeNames(graph)
        self._is_half: Set[str] = set()
        self._halves: Dict[str, str] = {}
        self._singles: Dict[str, str] = {}

    def add(self, node: onnx.NodeProto, ports: Ports) -> None:
        """Append a node whose `ports` are FP16 and whose other floating-point tensors are float32."""
        for position, name in enumerate(node.input):
            if position in ports.inputs:
                node.input[position] = self._half(name)
            elif name in self._is_half and node.op_type not in _UNTYPED:
                node.input[position] = self._single(name)
        self.nodes.append(node)
        for position in sorted(ports.outputs):
            name = node.output[position]
            if name in self._float32:
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


def _saturated(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    finite = np.clip(values, -FP16_LARGEST, FP16_LARGEST)
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return np.where(np.isinf(values), values, finite).astype(np.float16)
