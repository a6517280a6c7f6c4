"""Main memory and swap from /proc/meminfo, and the memory controller's clock where this process may read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from edge_runtime.device.telemetry.sample import Bus, Ram, Swap
from edge_runtime.device.telemetry.sources.attribute import Attribute

_MEMINFO_LIMIT = 16 << 10
_KB_PER_MB = 1024
_FIELD = re.compile(rb"^(\w+): +([0-9]{1,18}) kB$", re.MULTILINE)
# Of debugfs, which only root may read.
_EMC_CLOCKS = ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/kernel/debug/clk/emc/clk_rate")
_HZ_PER_MHZ = 1_000_000


@dataclass(frozen=True)
class MemorySensor:
    """Where memory is read."""

    meminfo: Attribute
    emc: List[Attribute]

    def read(self) -> Tuple[Ram | None, Swap | None]:
        """Memory and swap now; used is what tegrastats counts: all but free memory, buffers and cache."""
        fields = _fields(self.meminfo.content() or b"")
        total, free = fields.get("MemTotal"), fields.get("MemFree")
        ram = swap = None
        if total is not None and free is not None:
            used = total - free - fields.get("Buffers", 0) - fields.get("Cached", 0)
            ram = Ram(max(0, used) // _KB_PER_MB, total // _KB_PER_MB)
        total, free = fields.get("SwapTotal"), fields.get("SwapFree")
        if total and free is not None:
            cached = fields.get("SwapCached")
            mb = None if cached is None else cached // _KB_PER_MB
            swap = Swap(max(0, total - free) // _KB_PER_MB, total // _KB_PER_MB, mb)
        return ram, swap

    def bus(self) -> Bus | None:
        """The memory controller's clock; its load has no file that is the same on two releases."""
        for clock in self.emc:
            hertz = clock.number()
            if hertz is not None and hertz >= 0:
                return Bus(None, hertz // _HZ_PER_MHZ)
        return None

    def attributes(self) -> Iterator[Attribute]:
        """Everything that it holds open."""
        yield self.meminfo
        yield from self.emc


def find_memory(root: Path) -> MemorySensor:
    """The files below `root`."""
    clocks = [Attribute(root / path) for path in _EMC_CLOCKS]
    readable = [clock for clock in clocks if clock.number() is not None]
    return MemorySensor(Attribute(root / "proc/meminfo", _MEMINFO_LIMIT), readable)


def _fields(content: bytes) -> Dict[str, int]:
    return {name.decode(): int(value) for name, value in _FIELD.findall(content)}
