"""The machine that a measurement is true for."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from edge_runtime import __version__, onnxruntime_api
from edge_runtime.device.identity import DeviceInfo, identify

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Environment:
    """Hardware, clocks, load and versions; None is unknown."""

    device: DeviceInfo
    cores_usable: int
    memory_total_bytes: int | None
    kernel: str
    cpu_governor: str | None
    cpu_max_clock_mhz: int | None
    load_average_1_min: float | None
    python: str
    versions: Dict[str, str | None]

    def record(self) -> Dict[str, Any]:
        """As reports write it; the power mode is None, for no board was asked."""
        device = self.device.record()
        rest = {key: value for key, value in asdict(self).items() if key != "device"}
        return {**device, **rest, "power_mode": None}

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
            ("power mode", NOT_MEASURED),
            ("load average (1 min)", "unknown" if self.load_average_1_min is None else f"{self.load_average_1_min}"),
            ("system", f"{self.kernel}, Python {self.python}"),
            ("versions", versions),
        ]


def read_environment(root: Path = Path("/")) -> Environment:
    """The environment now, from /proc and /sys below `root`."""
    cpufreq = root / "sys/devices/system/cpu/cpu0/cpufreq"
    max_khz = _first_number(cpufreq / "cpuinfo_max_freq")
    return Environment(
        device=identify(root),
        cores_usable=len(os.sched_getaffinity(0)),
        memory_total_bytes=_memory_total_bytes(root / "proc/meminfo"),
        kernel=f"{platform.system()} {platform.release()}",
        cpu_governor=_text(cpufreq / "scaling_governor").strip() or None,
        cpu_max_clock_mhz=None if max_khz is None else round(max_khz / 1000),
        load_average_1_min=_first_number(root / "proc/loadavg"),
        python=platform.python_version(),
        versions={
            "edge_runtime": __version__,
            "numpy": np.__version__,
            "onnxruntime": onnxruntime_api.version(),
        },
    )


def _memory_total_bytes(path: Path) -> int | None:
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "MemTotal:" and words[1].isdecimal() and words[2] == "kB":
            return int(words[1]) * 1024
    return None


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
