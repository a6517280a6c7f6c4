"""Which engine library builds a plan, and for which device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from edge_runtime import onnxruntime_api, tensorrt_api
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.device.cuda.loading import probe
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.errors import BackendUnavailableError, ConfigError
from edge_runtime.plan.board import ONNXRUNTIME, tensorrt_version

Libraries = Mapping[str, "str | None"]


@dataclass(frozen=True)
class Backend:
    """A resolved backend: library, its version, the device, and how metadata calls plans of its kind.

    `reason` is why `[backend] fallback` was taken, "" if it wasn't.
    """

    name: str
    version: str
    device: str
    platform: str
    reason: str = ""

    @property
    def is_tensorrt(self) -> bool:
        """Whether plans are TensorRT's (or TensorRT-RTX's)."""
        return self.name in tensorrt_api.LIBRARIES


def backend_name(table: BackendTable, device: DeviceInfo, libraries: Libraries) -> str:
    """The backend that `[backend]` means on this machine; `auto` means CPU only where no GPU is expected.

    TensorRT-RTX is what `auto` takes on a PC that has it and no TensorRT; it knows no Jetson. `fallback` doesn't count.
    """
    if table.name != "auto":
        return table.name
    if not device.has_gpu:
        return ONNXRUNTIME
    is_rtx = device.kind != "jetson" and not libraries.get(tensorrt_api.FULL) and bool(libraries.get(tensorrt_api.RTX))
    return tensorrt_api.RTX if is_rtx else tensorrt_api.FULL


def int8_problem(name: str, device: DeviceInfo) -> str:
    """Why plans of a backend can't be INT8 on this machine, "" if they can; the CPU always can."""
    if name == ONNXRUNTIME or device.has_int8 or device.compute_capability is None:
        return ""
    major, minor = device.compute_capability
    return f"{device.board} (compute capability {major}.{minor}) has no INT8 hardware: expected 6.1, or 7.0 and later"


def resolve_backend(table: BackendTable, device: DeviceInfo, libraries: Libraries, cuda_problem: str = "") -> Backend:
    """The backend for `[backend]` on this machine.

    `libraries` are versions by name, None where not installed; `cuda_problem` says why the GPU can't be used, "" if it
    can. A GPU that can't be used is left for what `fallback` names, if it does.

    Raises:
        BackendUnavailableError: the one wanted isn't installed or can't be used here.
        ConfigError: the device isn't one of that backend.
    """
    name = backend_name(table, device, libraries)
    version = libraries.get(name)
    if table.name == "auto" and table.fallback and name != ONNXRUNTIME and (version is None or cuda_problem):
        reason = cuda_problem or f"{name} isn't installed"
        return Backend(ONNXRUNTIME, libraries.get(ONNXRUNTIME) or "unknown", "cpu", "onnxruntime_onnx", reason)
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
    problem = probe().problem if table.fallback and table.name == "auto" and device.has_gpu else ""
    return resolve_backend(table, device, local_libraries(), problem)


def local_libraries() -> Libraries:
    """The engine libraries that are installed here, by name."""
    libraries = {name: tensorrt_version(name) for name in tensorrt_api.LIBRARIES}
    return {**libraries, ONNXRUNTIME: onnxruntime_api.version()}
