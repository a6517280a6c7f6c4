"""Which machine this is: a Jetson, one with an NVIDIA device, or neither."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Tuple

from edge_runtime.device.files import names_in, printable, text_of
from edge_runtime.device.l4t import JetPack, jetpack_from_l4t, l4t_release
from edge_runtime.device.module import SOCS, dla_cores_of, module_from_compatible

_NVIDIA_NODES = ("nvidia[0-9]*", "nvidiactl", "nvhost-ctrl-gpu", "nvhost-gpu", "nvgpu", "nvmap")


@dataclass(frozen=True)
class DeviceInfo:
    """`kind` is `jetson`, `nvidia` (a machine with an NVIDIA device node) or `cpu`.

    `soc`, `module` and `l4t` are those of a Jetson, "" where they aren't known.
    """

    kind: str
    board: str
    machine: str
    cpu: str
    soc: str = ""
    module: str = ""
    l4t: str = ""

    @property
    def compute_capability(self) -> Tuple[int, int] | None:
        """That of a Jetson's GPU; None where it isn't known."""
        soc = SOCS.get(self.soc)
        return None if soc is None else soc.compute_capability

    @property
    def has_int8(self) -> bool:
        """Whether the GPU has INT8 arithmetic, which came with 6.1 and isn't in 6.2; unknown ones are new ones."""
        soc = SOCS.get(self.soc)
        return soc is None or soc.has_int8

    @property
    def has_gpu(self) -> bool:
        """Whether an NVIDIA GPU is expected here, working or not."""
        return self.kind != "cpu"

    @property
    def dla_cores(self) -> int | None:
        """DLA cores of a Jetson; None where that isn't known. Whether its software can use them is another matter."""
        return dla_cores_of(self.soc, self.module) if self.kind == "jetson" else 0

    @property
    def jetpack(self) -> JetPack | None:
        """The JetPack of a Jetson; None where it isn't known."""
        return jetpack_from_l4t(self.l4t)

    def record(self) -> Dict[str, Any]:
        """As the manifest and reports write it."""
        return asdict(self)


def identify(root: Path = Path("/")) -> DeviceInfo:
    """The machine whose /proc, /dev, /etc and /var are below `root`; nothing is probed beyond reading them."""
    board = _line(root / "proc/device-tree/model")
    compatible = _line(root / "proc/device-tree/compatible")
    cpu = _cpu_model(root) or "unknown"
    if "nvidia,tegra" in compatible:
        soc = next((name for name in SOCS if f"nvidia,{name}" in compatible.split()), "")
        module = module_from_compatible(compatible)
        return DeviceInfo("jetson", board or "none", platform.machine(), cpu, soc, module, l4t_release(root))
    has_node = any(fnmatchcase(name, pattern) for name in names_in(root / "dev") for pattern in _NVIDIA_NODES)
    return DeviceInfo("nvidia" if has_node else "cpu", board or "none", platform.machine(), cpu)


@lru_cache(maxsize=None)
def saturates_int8(root: Path = Path("/")) -> bool:
    """Whether a CPU's usual way to multiply INT8 vectors saturates in between: x86 without VNNI."""
    flags = _cpu_fields(root).get("flags", "").split()
    return platform.machine() in ("x86_64", "AMD64") and not {"avx512_vnni", "avx_vnni"}.intersection(flags)


def _line(path: Path) -> str:
    return printable(text_of(path))


def _cpu_model(root: Path) -> str:
    fields = _cpu_fields(root)
    return fields.get("model name") or fields.get("Model") or fields.get("CPU part", "")


def _cpu_fields(root: Path) -> Dict[str, str]:
    """What /proc/cpuinfo says, of the first CPU."""
    fields: Dict[str, str] = {}
    for line in text_of(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), printable(value))
    return fields
