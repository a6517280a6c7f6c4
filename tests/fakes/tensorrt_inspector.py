"""What the inspector of a fake engine says."""

# ruff: noqa: F821, A002 - annotations name classes of the module that is faked, and names are NVIDIA's
from __future__ import annotations

import json
import weakref
from typing import Any, Dict


class EngineInspector:
    def _setup(self, engine: Any) -> None:
        self._engine = weakref.ref(engine)
        self._kept = engine if self._module._surface != "8.2" else None  # 8.2's bindings don't keep it
        self._context: Any = None

    @property
    def execution_context(self) -> Any:
        return self._context

    @execution_context.setter
    def execution_context(self, value: IExecutionContext | None) -> None:
        self._context = value

    def get_layer_information(self, layer_index: int, format: LayerInformationFormat) -> str:
        engine = self._alive()
        if not 0 <= layer_index < len(engine._layers):
            return ""
        return self._text(self._layer(engine._layers[layer_index]), format)

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        engine = self._alive()
        verbosity = engine._record["verbosity"]
        layers = [] if verbosity == "NONE" else [self._layer(layer) for layer in engine._layers]
        if self._module._major >= 11:
            return self._text({"Layers": layers, "I/O Tensors": [self._tensor(t) for t in engine._tensors]}, format)
        names = [tensor.name for tensor in engine._tensors]
        return self._text({"Layers": layers, "Bindings": names}, format)

    def _alive(self) -> Any:
        engine = self._engine()
        assert engine is not None, "segfault: the engine of this inspector is gone; the inspector doesn't keep it"
        return engine

    def _text(self, content: Any, format: Any) -> str:
        return json.dumps(content, indent=2) if format.name == "JSON" else str(content)

    def _layer(self, layer: Dict[str, Any]) -> Any:
        if self._alive()._record["verbosity"] != "DETAILED":
            return layer["name"]
        described = {
            "Name": layer["name"],
            "LayerType": layer["type"].title().replace("_", ""),
            "Inputs": [self._value(name) for name in layer["inputs"]],
            "Outputs": [self._value(name) for name in layer["outputs"]],
            "ParameterType": layer["type"].title().replace("_", ""),
            "TacticName": f"fake_tactic_{layer['tactic']:08x}",
            "StreamId": 0,
        }
        if (self._module._major, self._module._minor) >= (8, 6):
            described["Metadata"] = "\x1e".join(f"[ONNX Layer: {name}]" for name in layer["members"])
        return described

    def _value(self, name: str) -> Dict[str, Any]:
        tensor = self._alive()._by_name.get(name)
        kind = {"FLOAT": "FP32", "HALF": "FP16"}.get(tensor.dtype, tensor.dtype) if tensor else "FP32"
        described = {"Name": name, "Location": "Device", "Dimensions": list(tensor.shape) if tensor else []}
        if self._module._major >= 11:
            return {**described, "Format": "Row major linear", "DataType": kind}
        return {**described, "Format/Datatype": f"Row major linear {kind} format"}

    def _tensor(self, tensor: Any) -> Dict[str, Any]:
        described: Dict[str, Any] = {
            "Name": tensor.name,
            "IOMode": "Input" if tensor.is_input else "Output",
            "DataType": {"FLOAT": "FP32", "HALF": "FP16"}.get(tensor.dtype, tensor.dtype),
            "Dimensions": list(tensor.shape),
            "Location": "Host" if tensor.is_shape else "Device",
        }
        if tensor.is_input:
            described["ProfileInfo"] = [
                {
                    **dict(zip(("MinShape", "OptShape", "MaxShape"), profile["shapes"][tensor.name])),
                    "Format": "Row major linear",
                }
                for profile in self._alive()._profiles
            ]
        return described
