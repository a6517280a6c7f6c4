"""CPU cores from /proc/stat and cpufreq: which are on, how busy they are, and their clocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from edge_runtime.device.files import names_in
from edge_runtime.device.telemetry.sample import Cpu, Limits, Number
from edge_runtime.device.telemetry.sources.attribute import Attribute

_CORES = "sys/devices/system/cpu"
_STAT_LIMIT = 4 << 10
_STAT_LINE = 160
_MOST_CORES = 1024
_IDLE, _IOWAIT = 3, 4
_COUNTED = 8  # user to steal; guest time is in user time already
_LEAST_TICKS = 5
_KHZ_PER_MHZ = 1000


class CoreLoads:
    """How busy each core was since the reading before, from the counters of /proc/stat.

    These count in ticks of 10 ms: a difference of fewer than 5 is left to grow, and the load before it holds.
    """

    def __init__(self) -> None:
        self._before: Dict[int, Tuple[int, int]] = {}
        self._loads: Dict[int, Number] = {}

    def update(self, stat: bytes) -> Dict[int, Number | None]:
        """The load of every core that `stat` names, %; None for one that it didn't name before."""
        now = _counters(stat)
        for core in set(self._before) - set(now):
            del self._before[core]
            self._loads.pop(core, None)
        for core, (busy, total) in now.items():
            busy_before, total_before = self._before.get(core, (busy, total))
            ticks = total - total_before
            if core not in self._before or ticks < 0:
                self._before[core] = (busy, total)
                self._loads.pop(core, None)
            elif ticks >= _LEAST_TICKS:
                self._before[core] = (busy, total)
                self._loads[core] = round(100 * min(max(0, busy - busy_before), ticks) / ticks, 1)
        return {core: self._loads.get(core) for core in now}


@dataclass(frozen=True)
class Clocks:
    """A policy of cpufreq, which cores of one cluster share."""

    current: Attribute
    lowest: Attribute
    highest: Attribute


@dataclass(frozen=True)
class CpuSensor:
    """Where the cores are read. `online` has the cores that can be off; `clocks_of` the place of a core's policy."""

    stat: Attribute
    cores: int
    online: Dict[int, Attribute]
    policies: List[Clocks]
    clocks_of: Dict[int, int]

    def read(self, loads: CoreLoads) -> Tuple[Tuple[Cpu | None, ...] | None, Tuple[Limits | None, ...]]:
        """Every core in order, None for one that is off, and what each clock is held to; None if none can be read."""
        busy = loads.update(self.stat.content() or b"")
        count = max(self.cores, max(busy, default=-1) + 1)
        if not count:
            return None, ()
        clocks = [_mhz(policy.current.number()) for policy in self.policies]
        limits = [_limits(policy) for policy in self.policies]
        if not busy and not any(clocks) and all(file.number() is None for file in self.online.values()):
            return None, ()
        cpus: List[Cpu | None] = []
        allowed: List[Limits | None] = []
        for core in range(count):
            place = self.clocks_of.get(core)
            is_on = core in busy if busy else self._is_on(core)
            cpus.append(Cpu(busy.get(core), None if place is None else clocks[place]) if is_on else None)
            allowed.append(None if place is None else limits[place])
        return tuple(cpus), tuple(allowed) if any(allowed) else ()

    def _is_on(self, core: int) -> bool:
        """By the core's own file, where /proc/stat, which names those that are on, can't be read."""
        return core not in self.online or self.online[core].number() != 0

    def attributes(self) -> Iterator[Attribute]:
        """Everything that it holds open."""
        yield self.stat
        yield from self.online.values()
        for policy in self.policies:
            yield from (policy.current, policy.lowest, policy.highest)


def find_cpus(root: Path) -> CpuSensor:
    """The cores below `root`; those that share one clock are read once."""
    folder = root / _CORES
    numbers = sorted(int(name[3:]) for name in names_in(folder) if re.fullmatch(r"cpu[0-9]{1,4}", name))
    numbers = [number for number in numbers if number < _MOST_CORES]
    policies: List[Clocks] = []
    places: Dict[str, int] = {}
    clocks_of: Dict[int, int] = {}
    for number in numbers:
        cpufreq = folder / f"cpu{number}/cpufreq"
        try:
            real = str(cpufreq.resolve(strict=True))
        except (OSError, RuntimeError):  # a core that is off may have none; RuntimeError: a loop, before Python 3.13
            continue
        if real not in places:
            places[real] = len(policies)
            paths = [cpufreq / f"scaling_{name}_freq" for name in ("cur", "min", "max")]
            policies.append(Clocks(*(Attribute(path) for path in paths)))
        clocks_of[number] = places[real]
    return CpuSensor(
        stat=Attribute(root / "proc/stat", max(_STAT_LIMIT, (len(numbers) + 2) * _STAT_LINE)),
        cores=max(numbers, default=-1) + 1,
        online={n: Attribute(folder / f"cpu{n}/online") for n in numbers if (folder / f"cpu{n}/online").is_file()},
        policies=policies,
        clocks_of=clocks_of,
    )


def _counters(stat: bytes) -> Dict[int, Tuple[int, int]]:
    """Busy and total ticks of each core since boot."""
    found: Dict[int, Tuple[int, int]] = {}
    for line in stat.split(b"\n"):
        if not line.startswith(b"cpu"):
            break  # interrupts and the rest come after the cores
        name, *words = line.split()[: _COUNTED + 1]
        try:
            core, ticks = int(name[len(b"cpu") :]), [int(word) for word in words]
        except ValueError:  # the line of all cores, or what is no line of /proc/stat
            continue
        if 0 <= core < _MOST_CORES and len(ticks) > _IDLE and min(ticks) >= 0:
            total = sum(ticks)
            found[core] = (total - sum(ticks[_IDLE : _IOWAIT + 1]), total)
    return found


def _limits(policy: Clocks) -> Limits | None:
    lowest, highest = _mhz(policy.lowest.number()), _mhz(policy.highest.number())
    return None if lowest is None and highest is None else Limits(lowest, highest)


def _mhz(kilohertz: int | None) -> Number | None:
    if kilohertz is None or kilohertz < 0:
        return None
    value = kilohertz / _KHZ_PER_MHZ
    return int(value) if value.is_integer() else value
