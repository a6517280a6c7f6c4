"""What arithmetic a machine's accelerator has, by the table of modules: a fallback for where nothing can be probed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict

from edge_runtime.device.identity import DeviceInfo
from edge_runtime.device.module import SOCS


@dataclass(frozen=True)
class Capabilities:
    """None is not known, as for any discrete GPU. `has_` speak of the GPU; of DLA cores, software must be there too."""

    gpu: str | None
    compute_capability: str | None
    has_tensor_cores: bool | None
    has_fp16: bool | None
    has_int8: bool | None
    has_fp8: bool | None
    dla_cores: int | None

    def record(self) -> Dict[str, Any]:
        """As reports write it."""
        return asdict(self)


def capabilities(device: DeviceInfo) -> Capabilities:
    """What the device has; a machine without an NVIDIA GPU has none of it."""
    if not device.has_gpu:
        return Capabilities(None, None, False, False, False, False, 0)
    soc = SOCS.get(device.soc)
    if soc is None:
        return Capabilities(None, None, None, None, None, None, device.dla_cores)
    return Capabilities(
        gpu=soc.gpu,
        compute_capability=".".join(map(str, soc.compute_capability)),
        has_tensor_cores=soc.has_tensor_cores,
        has_fp16=soc.has_fp16,
        has_int8=soc.has_int8,
        has_fp8=soc.has_fp8,
        dla_cores=device.dla_cores,
    )
