"""How large activations get, measured where they are made."""

from __future__ import annotations

from typing import Any, Dict, List, Set, Tuple

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from edge_runtime.graph.axes import input_axes, known_dims, only_named, set_shape
from edge_runtime.graph.inference import Types, tensor_types
from edge_runtime.graph.model import OnnxModel
from edge_runtime.graph.topology import FreeNames, constants

# Only they make tensors without elements from those that have some.
_SELECTING = frozenset("Compress If Loop NonMaxSuppression NonZero Range Scan SequenceAt Slice TopK Unique".split())


def with_ranges(model: OnnxModel) -> Tuple[OnnxModel, Dict[str, str]]:
    """The model with the largest magnitude of each float32 tensor as a further output, and whose range each one is.

    The further outputs are float32 scalars: NaN if the tensor holds NaN, 0 if it is empty. Inputs and activations of
    the main graph have one, constants don't. Over several samples, `numpy.maximum` keeps the largest, and NaN.
    """
    proto = model.copied_proto()
    graph = proto.graph
    types = tensor_types(proto, data_prop=True)
    doubtful = _may_be_empty(graph, types)
    known = constants(graph)
    made = [value.name for value in graph.input] + [name for node in graph.node for name in node.output if name]
    measured = [name for name in made if name not in known and _is_float32(types.get(name))]
    meter = _Meter(graph)
    # ONNX Runtime starts with the last node that nothing reads: so each tensor is measured, and freed, right away.
    outputs = {name: meter.measured(name, name in doubtful) for name in reversed(measured)}
    graph.node.extend(meter.nodes)
    graph.initializer.extend(meter.initializers)
    for name in measured:
        value = graph.output.add(name=outputs[name])
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        set_shape(value, [])
    return model.with_proto(proto), {outputs[name]: name for name in measured}


def _is_float32(kind: onnx.TypeProto | None) -> bool:
    return kind is not None and bool(kind.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _may_be_empty(graph: onnx.GraphProto, types: Types) -> Set[str]:
    axes = input_axes(graph)
    found: Set[str] = set()
    for node in graph.node:
        if node.op_type in _SELECTING or found.intersection(node.input):
            dims = {name: only_named(known_dims(types.get(name)), axes) for name in node.output}
            found.update(name for name, sizes in dims.items() if sizes is None or None in sizes)
    return found


class _Meter:
    """The nodes that measure tensors. A maximum may lose NaN, but a sum of magnitudes doesn't."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.initializers: List[onnx.TensorProto] = []
        self._free = FreeNames(graph)
        self._padding: List[str] = []

    def measured(self, tensor: str, may_be_empty: bool) -> str:
        """The name of a tensor's range."""
        name = f"{tensor}_range"
        if may_be_empty:  # what is empty has no maximum
            flat, zero = self._padding or self._make_padding()
            tensor = self._add("Concat", name, self._add("Reshape", name, tensor, flat), zero, axis=0)
        largest, least, total = (self._add(f"Reduce{each}", name, tensor, keepdims=0) for each in ("Max", "Min", "L1"))
        reach = self._add("Max", name, self._add("Abs", name, largest), self._add("Abs", name, least))
        return self._add("Where", name, self._add("IsNaN", name, total), total, reach)

    def _make_padding(self) -> List[str]:
        for wish, values in (("flat", np.array([-1])), ("zero", np.zeros(1, np.float32))):
            self._padding.append(self._free.take(f"range_{wish}"))
            self.initializers.append(onnx.numpy_helper.from_array(values, self._padding[-1]))
        return self._padding

    def _add(self, op_type: str, wish: str, *inputs: str, **attributes: Any) -> str:
        output = self._free.take(wish if op_type == "Where" else f"{wish}_{op_type}")
        node = onnx.helper.make_node(op_type, list(inputs), [output], self._free.take(f"{output}_node"), **attributes)
        self.nodes.append(node)
        return output
