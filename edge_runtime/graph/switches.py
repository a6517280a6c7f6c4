"""A network whose groups go to int8 by an input, one by one, to see what each costs in accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.graph.groups import Group
from edge_runtime.graph.int8_scales import Scales
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.quantize import Pairs, Supply, active_sites, replace_inputs, rounded_values
from edge_runtime.graph.rules import Edge
from edge_runtime.graph.topology import FreeNames


@dataclass(frozen=True)
class SwitchedModel:
    """A model with one more input, `switch`: bool[number of groups], true where a group is quantised."""

    model: OnnxModel
    switch: str


def with_switches(model: OnnxModel, scales: Mapping[str, float], groups: Sequence[Group]) -> SwitchedModel:
    """The float model where each group's inputs are rounded as `insert_qdq` would, if its switch is on.

    All is computed in float32: with every switch off, the outputs are the float model's. It holds the weights twice.
    Nodes outside the groups stay float, and so do those that read an activation without a scale.

    Raises:
        CalibrationError: a scale isn't a positive float32.
        ModelError: a weight is NaN or infinite.
        UnsupportedModelError: the opset is below 13; `portable` raises it.
    """
    proto = model.copied_proto()
    graph = proto.graph
    numbers = {name: number for number, group in enumerate(groups) for name in group.nodes}
    sites = active_sites(model, scales, {node.name for node in graph.node} - numbers.keys())
    switches = _Switches(FreeNames(graph), Scales(model.name, graph, sites, scales))
    replace_inputs(graph, sites, lambda node, edge: switches.chosen(edge, numbers[node.name]))
    graph.input.append(onnx.helper.make_tensor_value_info(switches.name, onnx.TensorProto.BOOL, [len(groups)]))
    graph.initializer.extend(switches.initializers)
    return SwitchedModel(model.with_proto(proto), switches.name)


class _Switches:
    """What chooses between a tensor and its rounded self, made when first asked for."""

    def __init__(self, free: FreeNames, scales: Scales) -> None:
        self.name = free.take("quantised_groups")
        self._free = free
        self._scales = scales
        self._pairs = Pairs(free, scales)
        self._constants: List[onnx.TensorProto] = []
        self._weights: Dict[Tuple[str, int | None], str] = {}
        self._conditions: Dict[int, str] = {}
        self._chosen: Dict[Tuple[str, int | None, int], str] = {}

    @property
    def initializers(self) -> List[onnx.TensorProto]:
        """The constants that the nodes given out need."""
        return self._constants + self._pairs.initializers

    def chosen(self, edge: Edge, group: int) -> Supply:
        """An input, rounded if the group's switch is on."""
        key = (edge.tensor, edge.axis, group)
        if key in self._chosen:
            return [], self._chosen[key]
        nodes, rounded = self._rounded_weight(edge) if edge.is_constant else self._pairs.dequantized(edge)
        more, condition = self._condition(group)
        self._chosen[key] = self._free.take(f"{edge.tensor}_group_{group}")
        choice = self._node("Where", [condition, rounded, edge.tensor], self._chosen[key])
        return [*nodes, *more, choice], self._chosen[key]

    def _rounded_weight(self, edge: Edge) -> Supply:
        key = (edge.tensor, edge.axis)
        if key not in self._weights:
            values = rounded_values(self._scales.weight(edge.tensor), self._scales.of(edge), edge.axis)
            self._weights[key] = self._constant(f"{edge.tensor}_rounded", values)
        return [], self._weights[key]

    def _condition(self, group: int) -> Supply:
        if group in self._conditions:
            return [], self._conditions[group]
        index = self._constant(f"{self.name}_index", np.array(group, np.int64))
        self._conditions[group] = self._free.take(f"{self.name}_{group}")
        return [self._node("Gather", [self.name, index], self._conditions[group])], self._conditions[group]

    def _node(self, op_type: str, inputs: List[str], output: str) -> onnx.NodeProto:
        return onnx.helper.make_node(op_type, inputs, [output], self._free.take(f"{output}_{op_type}"))

    def _constant(self, wish: str, values: npt.NDArray[Any]) -> str:
        name = self._free.take(wish)
        self._constants.append(onnx.numpy_helper.from_array(values, name))
        return name
