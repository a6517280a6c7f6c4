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


def resolve_backend(table: BackendTable, device: DeviceInfo, onnxruntime_version: str | None) -> Backend:
    """The backend for `[backend]` on this machine; `auto` means CPU only where no GPU is expected.

    Raises:
        BackendUnavailableError: the one wanted isn't installed or has no builder here.
        ConfigError: the device isn't one of that backend.
    """
    name = table.name
    if name == "auto":
        name = (table.fallback or "tensorrt") if device.has_gpu else "onnxruntime"
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
