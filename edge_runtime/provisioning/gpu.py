"""The finding about the GPU: whether this Python reaches it through CUDA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from edge_runtime.device.cuda.port import version_text
from edge_runtime.provisioning.findings import OK, Finding, Situation

if TYPE_CHECKING:
    from edge_runtime.device.cuda.loading import CudaProbe

_NO_GPU = (
    "no NVIDIA GPU: everything runs on ONNX Runtime CPU; TensorRT plans, GPU memory and latency, power and heat are "
    "not measured here"
)


def gpu_finding(situation: Situation, probe: Callable[[], CudaProbe] | None = None) -> Finding:
    """Whether the GPU answers to `probe` (None: the CUDA of this Python); without one, what that means."""
    if not situation.device.has_gpu:
        return Finding("gpu", OK, _NO_GPU)
    found = (probe or _local_probe)()
    if found.problem or not found.device_count:
        text = found.problem or f"{found.adapter} sees no device"
        is_install = found.remedy.startswith("pip install")
        remedy = situation.install_line if is_install and situation.is_jetson else found.remedy
        return Finding("gpu", situation.gpu_fault, text, remedy)
    count = "1 device" if found.device_count == 1 else f"{found.device_count} devices"
    driver = version_text(found.driver_version or 0)
    return Finding("gpu", OK, f"{count}, reached through {found.adapter}; the driver serves CUDA {driver}")


def _local_probe() -> CudaProbe:
    from edge_runtime.device.cuda.loading import probe  # noqa: PLC0415  (only a machine with a GPU loads CUDA)

    return probe()
