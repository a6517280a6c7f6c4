"""Which machine this is: a Jetson, one with an NVIDIA device, or neither."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Tuple

# By the name of the system on chip in the device tree.
_CAPABILITIES = {
    "tegra210": (5, 3),
    "tegra186": (6, 2),
    "tegra194": (7, 2),
    "tegra234": (8, 7),
    "tegra264": (11, 0),
}
_NVIDIA_NODES = ("nvidia[0-9]*", "nvidiactl", "nvhost-ctrl-gpu", "nvhost-gpu", "nvgpu", "nvmap")


@dataclass(frozen=True)
class DeviceInfo:
    """`kind` is `jetson`, `nvidia` (a machine with an NVIDIA device node) or `cpu`."""

    kind: str
    board: str
    machine: str
    cpu: str
    soc: str = ""

    @property
    def compute_capability(self) -> Tuple[int, int] | None:
        """That of a Jetson's GPU; None where it isn't known."""
        return _CAPABILITIES.get(self.soc)

    @property
    def has_int8(self) -> bool:
        """Whether the GPU has INT8 arithmetic, which came with 6.1 and isn't in 6.2; unknown ones are new ones."""
        capability = self.compute_capability
        return capability is None or (capability >= (6, 1) and capability != (6, 2))

    @property
    def has_gpu(self) -> bool:
        """Whether an NVIDIA GPU is expected here, working or not."""
        return self.kind != "cpu"

    def record(self) -> Dict[str, Any]:
        """As the manifest and reports write it."""
        return asdict(self)


def identify(root: Path = Path("/")) -> DeviceInfo:
    """The machine whose /proc and /dev are below `root`; nothing is probed beyond reading them."""
    board = _text(root / "proc/device-tree/model")
    compatible = _text(root / "proc/device-tree/compatible")
    if "nvidia,tegra" in compatible:
        kind = "jetson"
    elif any(next((root / "dev").glob(pattern), None) for pattern in _NVIDIA_NODES):
        kind = "nvidia"
    else:
        kind = "cpu"
    soc = next((name for name in _CAPABILITIES if f"nvidia,{name}" in compatible.split()), "")
    return DeviceInfo(kind, board or "none", platform.machine(), _cpu_model(root) or "unknown", soc)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def _cpu_model(root: Path) -> str:
    fields: Dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields.get("model name") or fields.get("Model") or fields.get("CPU part", "")
