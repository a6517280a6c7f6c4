"""How two power modes of a board compare, and whether going from one to the other may take a reboot."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import List

from edge_runtime.device.files import names_in, text_of, whole_number
from edge_runtime.device.power_mode_settings import PowerModeSettings
from edge_runtime.device.telemetry.sample import Limits, Number
from edge_runtime.device.telemetry.sources.sysfs_gpu import gpu_folders

_CORES = "sys/devices/system/cpu"


def with_ceiling(mode: PowerModeSettings, root: Path = Path("/")) -> PowerModeSettings:
    """The mode with the hardware's highest clocks where it leaves CPUs or GPU unlimited, if the board's files say."""
    kilohertz = [whole_number(text_of(root / _CORES / name / "cpufreq/cpuinfo_max_freq")) for name in _cores_of(root)]
    hertz = [whole_number(word) for each in gpu_folders(root) for word in _steps(each)]
    cpu_mhz = max([each / 1e3 for each in kilohertz if each], default=None)
    gpu_mhz = max([each / 1e6 for each in hertz if each], default=None)
    cpu = {name: _limited(limits, cpu_mhz) for name, limits in mode.cpu.items()}
    return replace(mode, cpu=cpu, gpu=None if mode.gpu is None else _limited(mode.gpu, gpu_mhz))


def is_within(one: PowerModeSettings, other: PowerModeSettings) -> bool:
    """Whether no clock of `one` may be higher than of `other`, and no more cores are on."""
    return all(mine <= theirs for mine, theirs in zip(_sizes(one), _sizes(other)))


def most_stretch(now: PowerModeSettings, then: PowerModeSettings) -> float | None:
    """How many times as long a run may take at most, by the clocks and cores; None where a mode doesn't limit them.

    What the clocks bound: work that scales with the slowest of them takes that much longer, other work less.
    """
    ratios: List[float] = []
    for mine, theirs in zip(_sizes(now), _sizes(then)):
        if mine != theirs:
            ratios.append(mine / theirs)
    known = all(math.isfinite(ratio) and ratio > 0 for ratio in ratios)
    return max([1.0, *ratios]) if known else None


def reboot_reason(now: PowerModeSettings, then: PowerModeSettings) -> str:
    """Why setting `then` may ask for a reboot, without which it does nothing; "" where nothing speaks for it."""
    if now.cores_online != then.cores_online:
        return f"it changes how many cores are on ({_cores(now)} to {_cores(then)})"
    gates = sorted(name for name in {*now.others, *then.others} if "PG_MASK" in name)
    changed = [name for name in gates if now.others.get(name) != then.others.get(name)]
    return f"it changes which parts of the GPU have power ({', '.join(changed)})" if changed else ""


def _cores_of(root: Path) -> List[str]:
    return [name for name in names_in(root / _CORES) if re.fullmatch(r"cpu[0-9]+", name)]


def _steps(folder: Path) -> List[str]:
    return text_of(folder / "available_frequencies").split()


def _limited(limits: Limits, ceiling_mhz: Number | None) -> Limits:
    return limits if limits.max_mhz is not None else Limits(limits.min_mhz, ceiling_mhz)


def _sizes(mode: PowerModeSettings) -> List[float]:
    """GPU and memory clock, the fastest CPU's, and how many cores are on; infinity for what the mode doesn't limit."""
    cpu = [_most(limits) for limits in mode.cpu.values()]
    cores = math.inf if mode.cores_online is None else float(len(mode.cores_online))
    return [_most(mode.gpu), _most(mode.emc), max(cpu, default=math.inf), cores]


def _most(limits: Limits | None) -> float:
    return math.inf if limits is None or limits.max_mhz is None else float(limits.max_mhz)


def _cores(mode: PowerModeSettings) -> str:
    return "unknown" if mode.cores_online is None else str(len(mode.cores_online))
