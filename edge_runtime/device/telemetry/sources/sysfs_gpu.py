"""A Jetson's GPU from sysfs: its load, its clocks, and what these are held to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from edge_runtime.device.files import names_in
from edge_runtime.device.telemetry.sample import Gpu, Limits, Number
from edge_runtime.device.telemetry.sources.attribute import Attribute

_DEVFREQ = "sys/class/devfreq"
# 57000000.gpu (TX1, Nano), 17000000.gp10b (TX2), .gv11b (Xavier), .ga10b or .gpu (Orin), gpu-gpc-N (Thor).
_DEVICE = re.compile(r"[0-9a-f]{1,16}\.(gpu|gm20b|gp10b|gv11b|ga10b)|gpu-gpc-[0-9]{1,2}")
_LOAD_PLACES = ("sys/devices", "sys/devices/platform", "sys/devices/platform/bus@0")
_LOAD_DEVICE = re.compile(r"gpu\.0|[0-9a-f]{1,16}\.(gpu|gm20b|gp10b|gv11b|ga10b)")
_FULL_LOAD = 1000
_HZ_PER_MHZ = 1_000_000


@dataclass(frozen=True)
class GpuSensor:
    """Where the GPU is read; `clocks` has one entry for each cluster."""

    load: Attribute | None
    clocks: List[Attribute]
    lowest: Attribute | None
    highest: Attribute | None

    def read(self) -> Gpu | None:
        """Load and clocks now; None where there is no GPU, or neither can be read."""
        load = None if self.load is None else self.load.number()
        clocks = [_mhz(clock.number()) for clock in self.clocks]
        known = tuple(clock for clock in clocks if clock is not None)
        if load is None and not known:
            return None
        is_load = load is not None and 0 <= load <= _FULL_LOAD
        return Gpu(_exact(load / 10) if load is not None and is_load else None, known or None)

    def limits(self) -> Limits | None:
        """The clocks that the power mode, jetson_clocks or the kernel's throttling hold it to."""
        lowest = None if self.lowest is None else _mhz(self.lowest.number())
        highest = None if self.highest is None else _mhz(self.highest.number())
        return None if lowest is None and highest is None else Limits(lowest, highest)

    def attributes(self) -> Iterator[Attribute]:
        """Everything that it holds open."""
        yield from self.clocks
        yield from (each for each in (self.load, self.lowest, self.highest) if each is not None)


def gpu_folders(root: Path) -> List[Path]:
    """The devfreq folders of the GPU's clocks, one for each cluster."""
    return [root / _DEVFREQ / name for name in names_in(root / _DEVFREQ) if _DEVICE.fullmatch(name)]


def find_gpu(root: Path) -> GpuSensor:
    """The GPU's files below `root`, found by the device's name."""
    folders = gpu_folders(root)
    loads = [folder / "device/load" for folder in folders]
    for place in _LOAD_PLACES:
        loads += [root / place / name / "load" for name in names_in(root / place) if _LOAD_DEVICE.fullmatch(name)]
    return GpuSensor(
        load=next((Attribute(path) for path in loads if path.is_file()), None),
        clocks=[Attribute(folder / "cur_freq") for folder in folders],
        lowest=Attribute(folders[0] / "min_freq") if folders else None,
        highest=Attribute(folders[0] / "max_freq") if folders else None,
    )


def _mhz(hertz: int | None) -> Number | None:
    return None if hertz is None or hertz < 0 else _exact(hertz / _HZ_PER_MHZ)


def _exact(value: float) -> Number:
    return int(value) if value.is_integer() else value
