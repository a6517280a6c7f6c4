"""What a plan is held against: the machine, its GPU, and the engine libraries that are installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

from edge_runtime import onnxruntime_api, tensorrt_api
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.device.power_mode import current_power_mode
from edge_runtime.errors import BackendUnavailableError, EdgeRuntimeError

ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name ("" isn't known), and its compute capability (None isn't)."""

    name: str
    compute_capability: Tuple[int, int] | None


@dataclass(frozen=True)
class Board:
    """What a plan is held against: the machine, its GPU, its power mode, and the engine libraries by name.

    `power_mode` is None where it isn't known; a library is None if it isn't installed.
    """

    device: DeviceInfo
    libraries: Mapping[str, str | None]
    gpu: Gpu = Gpu("", None)
    power_mode: str | None = None


def local_board(ordinal: int = 0) -> Board:
    """This machine with its GPU of that ordinal."""
    device = identify()
    libraries: Dict[str, str | None] = {name: tensorrt_version(name) for name in tensorrt_api.LIBRARIES}
    libraries[ONNXRUNTIME] = onnxruntime_api.version()
    mode = current_power_mode()
    return Board(device, libraries, gpu_of(device, ordinal), mode.name if mode is not None else None)


def gpu_of(device: DeviceInfo, ordinal: int = 0) -> Gpu:
    """A machine's GPU of that ordinal; that of a Jetson is known by its module, one of a PC is asked."""
    if device.compute_capability is not None or not device.has_gpu:
        return Gpu(device.module or device.board if device.has_gpu else "", device.compute_capability)
    from edge_runtime.device.cuda.loading import open_cuda  # noqa: PLC0415  (loads CUDA, which only a PC's GPU needs)

    try:
        found = open_cuda(ordinal).attributes(ordinal)
    except EdgeRuntimeError:
        return Gpu("", None)
    return Gpu(found.name, found.compute_capability)


def tensorrt_version(name: str) -> str | None:
    """The version of a TensorRT library, which is only loaded if nothing else says it; None: not installed."""
    found = tensorrt_api.installed(name)
    if found != "unknown":
        return found
    try:
        return tensorrt_api.load(name).version
    except BackendUnavailableError:
        return None
