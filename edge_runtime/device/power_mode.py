"""The power mode (nvpmodel) of a Jetson, and whether its clocks are pinned, read without starting a program."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List

from edge_runtime.device.files import names_in, text_of, whole_number

_CONFIGURATION = "etc/nvpmodel.conf"
_MODE = re.compile(r"^\s*<\s*POWER_MODEL\s+ID=([0-9]{1,9})\s+NAME=([^\s<>]{1,64})\s*>", re.MULTILINE)
_DEFAULT = re.compile(r"^\s*<\s*PM_CONFIG\s+DEFAULT=([0-9]{1,9})\s*>", re.MULTILINE)
_CURRENT = re.compile(r"\bpmode:([0-9]{1,9})\b")


@dataclass(frozen=True)
class PowerMode:
    """A mode of this board: `id` differs between modules and releases, so compare by `name`."""

    id: int
    name: str


def power_modes(root: Path = Path("/")) -> List[PowerMode]:
    """The modes that the board's configuration offers, by id; empty where there is none."""
    found = {int(number): name for number, name in _MODE.findall(text_of(root / _CONFIGURATION))}
    return [PowerMode(number, name) for number, name in sorted(found.items()) if name.isprintable()]


def current_power_mode(root: Path = Path("/")) -> PowerMode | None:
    """The mode that was set last; None where it, or its name, isn't known."""
    return _named(root, _CURRENT.search(text_of(root / "var/lib/nvpmodel/status")))


def default_power_mode(root: Path = Path("/")) -> PowerMode | None:
    """The mode that the board takes where none was ever set; None where that isn't known."""
    return _named(root, _DEFAULT.search(text_of(root / _CONFIGURATION)))


def has_pinned_clocks(root: Path = Path("/")) -> bool | None:
    """Whether every CPU's lowest clock is its highest, as jetson_clocks leaves it; None where no clock can be read."""
    cores = root / "sys/devices/system/cpu"
    pinned = []
    for name in names_in(cores):
        if not re.fullmatch(r"cpu[0-9]+", name):
            continue
        lowest = whole_number(text_of(cores / name / "cpufreq/scaling_min_freq"))
        highest = whole_number(text_of(cores / name / "cpufreq/scaling_max_freq"))
        if lowest is not None and highest is not None:
            pinned.append(lowest == highest)
    return all(pinned) if pinned else None


def _named(root: Path, match: re.Match[str] | None) -> PowerMode | None:
    number = None if match is None else int(match.group(1))
    return next((mode for mode in power_modes(root) if mode.id == number), None)
