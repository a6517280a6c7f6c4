"""Which machine this is: a Jetson, one with an NVIDIA device, or neither."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict

_NVIDIA_NODES = ("nvidia[0-9]*", "nvidiactl", "nvhost-ctrl-gpu", "nvhost-gpu", "nvgpu", "nvmap")


@dataclass(frozen=True)
class DeviceInfo:
    """`kind` is `jetson`, `nvidia` (a machine with an NVIDIA device node) or `cpu`."""

    kind: str
    board: str
    machine: str
    cpu: str

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
    return DeviceInfo(kind, board or "none", platform.machine(), _cpu_model(root) or "unknown")


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
