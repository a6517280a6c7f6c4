"""The machine that a measurement is true for."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from edge_runtime import __version__, onnxruntime_api, tensorrt_api
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.device.memory import read_memory
from edge_runtime.device.power_mode import current_power_mode, has_pinned_clocks

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Environment:
    """Hardware, power mode, clocks, load and versions; None is unknown."""

    device: DeviceInfo
    cores_usable: int
    memory_total_bytes: int | None
    kernel: str
    cpu_governor: str | None
    cpu_max_clock_mhz: int | None
    load_average_1_min: float | None
    python: str
    versions: Dict[str, str | None]
    power_mode: str | None = None
    cpu_clock_limit_mhz: int | None = None
    clocks_pinned: bool | None = None

    def record(self) -> Dict[str, Any]:
        """As reports write it."""
        rest = {key: value for key, value in asdict(self).items() if key != "device"}
        return {**self.device.record(), **rest}

    def rows(self) -> List[Tuple[str, str]]:
        """Label and text of every figure, for a table."""
        memory = None if self.memory_total_bytes is None else f"{self.memory_total_bytes / 2**30:.1f} GiB"
        clock = None if self.cpu_max_clock_mhz is None else f"{self.cpu_max_clock_mhz} MHz at most"
        clocks = ", ".join(part for part in (self.cpu_governor, clock) if part)
        versions = ", ".join(f"{name} {version or 'absent'}" for name, version in self.versions.items())
        return [
            ("board", self.device.board),
            ("machine", f"{self.device.machine}, {self.device.cpu}, {self.cores_usable} cores usable"),
            ("memory", memory or "unknown"),
            ("clocks", clocks or "unknown"),
            ("power mode", self.power_mode or ("unknown" if self.device.kind == "jetson" else NOT_MEASURED)),
            ("load average (1 min)", "unknown" if self.load_average_1_min is None else f"{self.load_average_1_min}"),
            ("system", f"{self.kernel}, Python {self.python}"),
            ("versions", versions),
        ]


def read_environment(root: Path = Path("/")) -> Environment:
    """The environment now, from /proc, /sys, /etc and /var below `root`."""
    cpufreq = root / "sys/devices/system/cpu/cpu0/cpufreq"
    max_khz, limit_khz = (_first_number(cpufreq / name) for name in ("cpuinfo_max_freq", "scaling_max_freq"))
    mode = current_power_mode(root)
    return Environment(
        device=identify(root),
        cores_usable=len(os.sched_getaffinity(0)),
        memory_total_bytes=read_memory(root).total_nbytes,
        kernel=f"{platform.system()} {platform.release()}",
        cpu_governor=_text(cpufreq / "scaling_governor").strip() or None,
        cpu_max_clock_mhz=None if max_khz is None else round(max_khz / 1000),
        load_average_1_min=_first_number(root / "proc/loadavg"),
        python=platform.python_version(),
        versions={
            "edge_runtime": __version__,
            "numpy": np.__version__,
            "onnxruntime": onnxruntime_api.version(),
            **{name: version for name, version in _tensorrt_versions() if version is not None},
        },
        power_mode=None if mode is None else mode.name,
        cpu_clock_limit_mhz=None if limit_khz is None else round(limit_khz / 1000),
        clocks_pinned=has_pinned_clocks(root),
    )


def _tensorrt_versions() -> List[Tuple[str, str | None]]:
    return [(name, tensorrt_api.installed(name)) for name in tensorrt_api.LIBRARIES]


def _first_number(path: Path) -> float | None:
    words = _text(path).split()
    try:
        return float(words[0])
    except (IndexError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
