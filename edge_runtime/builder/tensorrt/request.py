"""What a child process is asked to build: plain values that JSON holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Dict, Mapping, Sequence, Tuple

from edge_runtime.tensors import DType, ShapeRange, TensorSpec


@dataclass(frozen=True)
class BuildRequest:
    """One plan to build. Paths are absolute; sizes are bytes; None leaves TensorRT's default.

    Args:
        library: `tensorrt` or `tensorrt_rtx`.
        onnx: the ONNX file; its weights may lie beside it.
        plan: where the plan goes; nothing is there if the build fails.
        profile: the three shapes of each input.
        is_strongly_typed: whether types are the ONNX's own.
        flags: names of `BuilderFlag` to set.
        workspace_nbytes: limit of the workspace.
        optimization_level: how long the builder searches, 0 to 5.
        timing_cache: file of tactics timed before, which is written anew; "" for none.
        calibration_cache: TensorRT's cache text, for INT8 without Q/DQ; "" for none.
        calibration_folder: batches to calibrate on, for INT8 by TensorRT's own calibrator; "" for none.
        float_layers: names of ONNX nodes that are held to float32, where flags decide.
        half_layers: names of ONNX nodes that are held to FP16, where flags decide.
        nodes: names of all ONNX nodes, where some are held.
        dla_core: core of the deep learning accelerator; None for the GPU.
        device: ordinal of the GPU.
        is_version_compatible: whether later TensorRT may load the plan.
        hardware_compatibility: `none`, `ampere_plus` or `same_compute_capability`.
        compute_capabilities: GPUs that a TensorRT-RTX plan is for, such as `8.9`; empty for all that it knows.
        plugins: libraries of plugins to load first.
        is_check: whether only the settings are tried, and nothing is built.
    """

    library: str
    onnx: str
    plan: str
    profile: Mapping[str, ShapeRange]
    is_strongly_typed: bool = False
    flags: Tuple[str, ...] = ()
    workspace_nbytes: int | None = None
    optimization_level: int | None = None
    timing_cache: str = ""
    calibration_cache: str = ""
    calibration_folder: str = ""
    float_layers: Tuple[str, ...] = ()
    half_layers: Tuple[str, ...] = ()
    nodes: Tuple[str, ...] = ()
    dla_core: int | None = None
    device: int = 0
    is_version_compatible: bool = False
    hardware_compatibility: str = "none"
    compute_capabilities: Tuple[str, ...] = ()
    plugins: Tuple[str, ...] = ()
    is_check: bool = False

    def to_json(self) -> str:
        """One line."""
        content = asdict(self)
        content["profile"] = {
            name: [limits.minimum, limits.optimum, limits.maximum] for name, limits in self.profile.items()
        }
        return json.dumps(content)


def request_from_json(text: str) -> BuildRequest:
    """The request in a line of JSON that `to_json` wrote."""
    content: Dict[str, Any] = json.loads(text)
    profile = {name: ShapeRange(*map(tuple, shapes)) for name, shapes in content.pop("profile").items()}
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    known = {field.name for field in fields(BuildRequest)}
    return BuildRequest(
        profile=profile, **{key: lists.get(key, value) for key, value in content.items() if key in known}
    )


@dataclass(frozen=True)
class Built:
    """A plan that was built: its tensors as TensorRT has them, and what should be known.

    The specs have TensorRT's own types: INT64 may have become INT32. `calibration_cache` is what a calibration gave.
    """

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    notes: Tuple[str, ...] = ()
    calibration_cache: str = ""

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        return {
            "inputs": [_spec_record(spec) for spec in self.inputs],
            "outputs": [_spec_record(spec) for spec in self.outputs],
            "notes": list(self.notes),
            "calibration_cache": self.calibration_cache,
        }


def built_from_record(content: Mapping[str, Any]) -> Built:
    """The result in what `record` made."""
    inputs, outputs = (tuple(map(_spec, content[key])) for key in ("inputs", "outputs"))
    return Built(inputs, outputs, tuple(content["notes"]), content["calibration_cache"])


def with_types(specs: Tuple[TensorSpec, ...], found: Sequence[TensorSpec]) -> Tuple[TensorSpec, ...]:
    """`specs` with the data types that TensorRT has for tensors of those names."""
    types = {spec.name: spec.dtype for spec in found}
    return tuple(replace(spec, dtype=types.get(spec.name, spec.dtype)) for spec in specs)


def _spec_record(spec: TensorSpec) -> Dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype.value, "shape": list(spec.shape)}


def _spec(record: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(record["name"], DType(record["dtype"]), tuple(record["shape"]))
