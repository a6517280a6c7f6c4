"""Clocks that jetson_clocks holds at their highest: what they could be let down to, and doing that by their files.

Only CPUs and GPU: the memory's clock is in debugfs, and no file says what it was before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from edge_runtime.device.files import names_in, text_of, whole_number
from edge_runtime.device.telemetry.sources.sysfs_gpu import gpu_folders
from edge_runtime.errors import ConfigError

_POLICIES = "sys/devices/system/cpu/cpufreq"
_CORES = "sys/devices/system/cpu"


@dataclass(frozen=True)
class HeldClock:
    """A clock whose lower limit is its upper one; `held` and `lowest` as the file `path` has them (CPU kHz, GPU Hz)."""

    name: str
    path: Path
    held: int
    lowest: int

    def command(self, value: int) -> str:
        """What a person types to set the lower limit."""
        return f"echo {value} | sudo tee {self.path}"

    def release(self) -> None:
        """Lets the clock fall as low as the hardware has it; raises ConfigError as `hold`."""
        self._set(self.lowest)

    def hold(self) -> None:
        """Holds it again where it was.

        Raises:
            ConfigError: the file can't be written, or has another value afterwards.
        """
        self._set(self.held)

    def _set(self, value: int) -> None:
        try:
            self.path.write_text(f"{value}\n")
        except OSError as error:
            raise ConfigError(
                f"clock of {self.name}: {self.path} can't be written ({error.strerror}); run: {self.command(value)}"
            ) from None
        got = whole_number(text_of(self.path))
        if got != value:
            raise ConfigError(
                f"clock of {self.name}: {self.path}: expected {value}, got {got}; run: {self.command(value)}"
            )


def held_clocks(root: Path = Path("/")) -> List[HeldClock]:
    """The clocks of CPUs and GPU that are held now and could be lower; empty where none is, or none can be read."""
    return [*_held_cpus(root), *_held_gpus(root)]


def _held_cpus(root: Path) -> Iterator[HeldClock]:
    policies = [root / _POLICIES / name for name in names_in(root / _POLICIES) if re.fullmatch(r"policy[0-9]+", name)]
    cores = [root / _CORES / name / "cpufreq" for name in names_in(root / _CORES) if re.fullmatch(r"cpu[0-9]+", name)]
    for folder in policies or cores:
        name = folder.name if policies else folder.parent.name
        lowest = whole_number(text_of(folder / "cpuinfo_min_freq"))
        yield from _held(f"CPU {name}", folder / "scaling_min_freq", folder / "scaling_max_freq", lowest)


def _held_gpus(root: Path) -> Iterator[HeldClock]:
    for folder in gpu_folders(root):
        steps = [whole_number(word) for word in text_of(folder / "available_frequencies").split()]
        lowest = min((step for step in steps if step), default=None)
        yield from _held(f"GPU {folder.name}", folder / "min_freq", folder / "max_freq", lowest)


def _held(name: str, least: Path, most: Path, lowest: int | None) -> Iterator[HeldClock]:
    held = whole_number(text_of(least))
    if held is not None and lowest is not None and held == whole_number(text_of(most)) and lowest < held:
        yield HeldClock(name, least, held, lowest)
