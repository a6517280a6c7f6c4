"""Which engine library builds a plan, and for which device."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime import onnxruntime_api
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.errors import BackendUnavailableError, ConfigError


@dataclass(frozen=True)
class Backend:
    """A resolved backend: library, its version, the device, and how metadata calls plans of its kind."""

    name: str
    version: str
    device: str
    platform: str


def backend_name(table: BackendTable, device: DeviceInfo) -> str:
    """The backend that `[backend]` means on this machine; `auto` means CPU only where no GPU is expected."""
    if table.name != "auto":
        return table.name
    return (table.fallback or "tensorrt") if device.has_gpu else "onnxruntime"


def int8_problem(table: BackendTable, device: DeviceInfo) -> str:
    """Why plans for this target can't be INT8, "" if they can; the CPU always can."""
    if backend_name(table, device) == "onnxruntime" or device.has_int8 or device.compute_capability is None:
        return ""
    major, minor = device.compute_capability
    return f"{device.board} (compute capability {major}.{minor}) has no INT8 hardware: expected 6.1, or 7.0 and later"


def resolve_backend(table: BackendTable, device: DeviceInfo, onnxruntime_version: str | None) -> Backend:
    """The backend for `[backend]` on this machine.

    Raises:
        BackendUnavailableError: the one wanted isn't installed or has no builder here.
        ConfigError: the device isn't one of that backend.
    """
    name = backend_name(table, device)
    if name == "tensorrt":
        where = device.board if device.kind == "jetson" else f"this machine ({device.kind})"
        raise BackendUnavailableError(
            f"backend tensorrt (wanted for {where}) can't build plans in this version; choose the CPU: "
            '--backend onnxruntime, or [backend] fallback = "onnxruntime"'
        )
    if table.device not in (None, "cpu"):
        raise ConfigError(f"[backend] device {table.device!r}: backend onnxruntime runs on 'cpu' only")
    if onnxruntime_version is None:
        raise BackendUnavailableError("backend onnxruntime isn't installed; pip install onnxruntime")
    return Backend("onnxruntime", onnxruntime_version, "cpu", "onnxruntime_onnx")


def local_backend(table: BackendTable, device: DeviceInfo) -> Backend:
    """`resolve_backend` with what is installed here."""
    return resolve_backend(table, device, onnxruntime_api.version())
