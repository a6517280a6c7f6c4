"""Networks, their layers and tensors, as the fake parser makes them."""

# ruff: noqa: F821, A002 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

from typing import Any, Dict, List, Sequence, Set

import onnx
from fakes.tensorrt_binding import Dims, make
from fakes.tensorrt_board import usage_error
from fakes.tensorrt_layers import Origin, layers_of
from fakes.tensorrt_model import real_inputs, shape_inputs, shape_of, type_name
from onnx import shape_inference


class ITensor:
    def _setup(self, name: str, dtype: Any, shape: Sequence[int], roles: Sequence[str]) -> None:
        self._name, self._dtype, self._shape, self._roles = name, dtype, tuple(shape), set(roles)
        self._range: Any = None

    name = property(lambda self: self._name)
    dtype = property(lambda self: self._dtype)
    shape = property(lambda self: Dims(self._shape))
    is_shape_tensor = property(lambda self: "shape" in self._roles)
    is_execution_tensor = property(lambda self: "shape" not in self._roles)
    is_network_input = property(lambda self: "input" in self._roles)
    is_network_output = property(lambda self: "output" in self._roles)

    @property
    def location(self) -> Any:
        return self._module.TensorLocation.HOST if self.is_shape_tensor else self._module.TensorLocation.DEVICE

    @property
    def dynamic_range(self) -> Any:
        return self._range

    @dynamic_range.setter
    def dynamic_range(self, range: Any) -> None:
        self.set_dynamic_range(*range)

    def set_dynamic_range(self, min: float, max: float) -> bool:
        self._range = (float(min), float(max))
        return True

    def reset_dynamic_range(self) -> None:
        self._range = None

    def get_dimension_name(self, index: int) -> str:
        return ""

    def set_dimension_name(self, index: int, name: str) -> None:
        return None


class ILayer:
    def _setup(self, network: Any, name: str, origin: Origin) -> None:
        self._network, self._name, self._origin = network, name, origin
        self._precision: Any = None
        self._output_types: Dict[int, Any] = {}

    name = property(lambda self: self._name)
    num_inputs = property(lambda self: len(self._origin.inputs))
    num_outputs = property(lambda self: len(self._origin.outputs))
    metadata = property(lambda self: f"[ONNX Layer: {self._origin.node}]" if self._origin.node else "")
    precision_is_set = property(lambda self: self._precision is not None)

    @property
    def type(self) -> Any:
        kinds = self._module.LayerType
        return getattr(kinds, self._origin.kind, kinds.IDENTITY)

    def get_input(self, index: int) -> Any:
        names = self._origin.inputs
        return self._network._tensors[names[index]] if 0 <= index < len(names) else None

    def get_output(self, index: int) -> Any:
        names = self._origin.outputs
        return self._network._tensors[names[index]] if 0 <= index < len(names) else None

    @property
    def precision(self) -> Any:
        return self._precision or self._module.DataType.FLOAT

    @precision.setter
    def precision(self, value: DataType) -> None:
        self._precision = value

    def reset_precision(self) -> None:
        self._precision = None

    def set_output_type(self, index: int, dtype: DataType) -> None:
        self._output_types[int(index)] = dtype

    def get_output_type(self, index: int) -> Any:
        output = self.get_output(index)
        return self._output_types.get(index, output.dtype if output else self._module.DataType.FLOAT)

    def output_type_is_set(self, index: int) -> bool:
        return index in self._output_types

    def reset_output_type(self, index: int) -> None:
        self._output_types.pop(index, None)


class INetworkDefinition:
    def _setup(self, builder: Any, flags: int, logger: Any) -> None:
        self._builder, self._flags, self._logger = builder, flags, logger  # a network keeps its builder
        self._model: Any = None
        self._inputs: List[Any] = []
        self._outputs: List[Any] = []
        self._layers: List[Any] = []
        self._tensors: Dict[str, Any] = {}
        self._activations: Set[str] = set()  # the tensors that the ONNX names
        self._parser: Any = None
        self._title = "Unnamed Network 0"

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))
    flags = property(lambda self: self._flags)

    @property
    def name(self) -> str:
        return self._title

    @name.setter
    def name(self, value: str) -> None:
        self._title = value

    @property
    def has_implicit_batch_dimension(self) -> bool:
        kinds = self._module.NetworkDefinitionCreationFlag
        return self._module._major < 10 and not self._flags & (1 << int(kinds.EXPLICIT_BATCH))

    def get_flag(self, flag: NetworkDefinitionCreationFlag) -> bool:
        return bool(self._flags & (1 << int(flag)))

    @property
    def _is_strongly_typed(self) -> bool:
        kinds = self._module.NetworkDefinitionCreationFlag
        return self._module._major >= 11 or (
            hasattr(kinds, "STRONGLY_TYPED") and bool(self._flags & (1 << int(kinds.STRONGLY_TYPED)))
        )

    def get_input(self, index: int) -> Any:
        return self._at(self._inputs, index, "getInput")

    def get_output(self, index: int) -> Any:
        return self._at(self._outputs, index, "getOutput")

    def get_layer(self, index: int) -> Any:
        return self._at(self._layers, index, "getLayer")

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int, /) -> Any:
        if not -len(self._layers) <= index < len(self._layers):
            raise IndexError("Out of bounds")
        return self._layers[index]

    def mark_output(self, tensor: ITensor) -> None:
        if tensor not in self._outputs:
            tensor._roles.add("output")
            self._outputs.append(tensor)

    def unmark_output(self, tensor: ITensor) -> None:
        if tensor in self._outputs:
            tensor._roles.discard("output")
            self._outputs.remove(tensor)

    def _at(self, items: List[Any], index: int, method: str) -> Any:
        if 0 <= index < len(items):
            return items[index]
        usage_error(
            self._module,
            self._logger,
            f"INetworkDefinition::{method}",
            f"Parameter check failed, condition: (0) <= (index) && (index) < ({len(items)}). Invalid index: {index}.",
        )
        return None

    def _fill(self, model: onnx.ModelProto) -> None:
        """Takes the tensors and the layers of a model."""
        self._model = model
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
        shapes = shape_inputs(graph)
        inputs, outputs = [value.name for value in real_inputs(graph)], [value.name for value in graph.output]
        for value in [*real_inputs(graph), *graph.value_info, *graph.output]:
            groups = (("input", inputs), ("output", outputs), ("shape", shapes))
            self._tensors[value.name] = self._tensor(value, [role for role, names in groups if value.name in names])
        self._activations = set(self._tensors)
        self._inputs = [self._tensors[name] for name in inputs]
        self._outputs = [self._tensors[name] for name in outputs]
        self._layers = [
            make(self._module, "ILayer", self, name, origin) for name, origin in layers_of(graph, set(self._tensors))
        ]
        for layer in self._layers:
            for name in layer._origin.outputs:
                if name not in self._tensors:
                    self._tensors[name] = make(self._module, "ITensor", name, self._module.DataType.FLOAT, (), ())

    def _tensor(self, value: onnx.ValueInfoProto, roles: Sequence[str]) -> Any:
        name = type_name(value.type.tensor_type.elem_type, self._module._major, self._module._minor)
        dtype = getattr(self._module.DataType, name or "FLOAT")
        return make(self._module, "ITensor", value.name, dtype, shape_of(value), roles)
