"""Which engine library builds a plan, and for which device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from edge_runtime import onnxruntime_api, tensorrt_api
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.errors import BackendUnavailableError, ConfigError
from edge_runtime.plan.target import ONNXRUNTIME, tensorrt_version

Libraries = Mapping[str, "str | None"]


@dataclass(frozen=True)
class Backend:
    """A resolved backend: library, its version, the device, and how metadata calls plans of its kind."""

    name: str
    version: str
    device: str
    platform: str

    @property
    def is_tensorrt(self) -> bool:
        """Whether plans are TensorRT's (or TensorRT-RTX's)."""
        return self.name in tensorrt_api.LIBRARIES


def backend_name(table: BackendTable, device: DeviceInfo, libraries: Libraries | None = None) -> str:
    """The backend that `[backend]` means on this machine; `auto` means CPU only where no GPU is expected.

    TensorRT-RTX is what `auto` takes on a PC that has it and no TensorRT; it knows no Jetson.
    """
    if table.name != "auto":
        return table.name
    if not device.has_gpu:
        return ONNXRUNTIME
    if table.fallback:
        return table.fallback
    found = libraries or {}
    is_rtx = device.kind != "jetson" and not found.get(tensorrt_api.FULL) and bool(found.get(tensorrt_api.RTX))
    return tensorrt_api.RTX if is_rtx else tensorrt_api.FULL


def int8_problem(table: BackendTable, device: DeviceInfo) -> str:
    """Why plans for this target can't be INT8, "" if they can; the CPU always can."""
    if backend_name(table, device) == ONNXRUNTIME or device.has_int8 or device.compute_capability is None:
        return ""
    major, minor = device.compute_capability
    return f"{device.board} (compute capability {major}.{minor}) has no INT8 hardware: expected 6.1, or 7.0 and later"


def resolve_backend(table: BackendTable, device: DeviceInfo, libraries: Libraries) -> Backend:
    """The backend for `[backend]` on this machine; `libraries` are versions by name, None where not installed.

    Raises:
        BackendUnavailableError: the one wanted isn't installed or can't be used here.
        ConfigError: the device isn't one of that backend.
    """
    name = backend_name(table, device, libraries)
    version = libraries.get(name)
    if name == ONNXRUNTIME:
        if table.device not in (None, "cpu"):
            raise ConfigError(f"[backend] device {table.device!r}: backend onnxruntime runs on 'cpu' only")
        if version is None:
            raise BackendUnavailableError("backend onnxruntime isn't installed; pip install onnxruntime")
        return Backend(name, version, "cpu", "onnxruntime_onnx")
    where = device.board if device.kind == "jetson" else f"this machine ({device.kind})"
    cpu = 'or choose the CPU: --backend onnxruntime, or [backend] fallback = "onnxruntime"'
    if name == tensorrt_api.FULL and not device.has_gpu:
        raise BackendUnavailableError(f"backend {name}: {where} has no NVIDIA GPU; build on the board, {cpu}")
    if name == tensorrt_api.RTX and device.kind == "jetson":
        raise ConfigError(f"backend {name} knows no Jetson, and this is {where}; use backend tensorrt")
    if version is None:
        raise BackendUnavailableError(
            f"backend {name} (wanted for {where}) isn't installed: {tensorrt_api.remedy(name)}; {cpu}"
        )
    if table.device == "cpu":
        raise ConfigError(f"[backend] device 'cpu': backend {name} runs on gpu:N or dla:N")
    if table.dla_core is not None and device.dla_cores == 0:
        raise ConfigError(f"[backend] device {table.device!r}: {where} has no deep learning accelerator; use gpu:0")
    return Backend(name, version, table.device or "gpu:0", f"{name}_plan")


def local_backend(table: BackendTable, device: DeviceInfo) -> Backend:
    """`resolve_backend` with what is installed here."""
    libraries = {name: tensorrt_version(name) for name in tensorrt_api.LIBRARIES}
    return resolve_backend(table, device, {**libraries, ONNXRUNTIME: onnxruntime_api.version()})
