"""Temperatures, the points where the kernel throttles, cooling devices and over-current counters, from sysfs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from edge_runtime.device.files import names_in, printable, text_of, whole_number
from edge_runtime.device.telemetry.sources.attribute import Attribute

_CLASS = "sys/class/thermal"
_HWMON = "sys/class/hwmon"
_COLDEST_MC = -100_000  # a sensor whose domain is off reads -256000
_HOTTEST_MC = 300_000
_NAMED = {"thermal-fan-est": "thermal", "PMIC-Die": "PMIC"}
_PLACE = re.compile(r"(?<=[A-Za-z])\.[0-9]{1,4}$")  # L4T 28 has `thermal-fan-est.46`
_ENDINGS = ("-thermal", "-therm", "_tegra")
_CONSTANT = "PMIC"  # its zone holds a number that is no reading: 100 or 50 degrees
_THROTTLING = ("passive", "hot")
# Sensors that have no thermal zone: CPUs of PCs, and those on a Thor's carrier.
_CHIPS = ("coretemp", "k10temp", "zenpower", "tmp451")
_OVER_CURRENT = ("soctherm_oc", "soctherm-oc")


@dataclass(frozen=True)
class Heat:
    """Where heat is read; zones are named as tegrastats prints them on the same release."""

    zones: List[Tuple[str, Attribute]]
    constants: Tuple[str, ...]
    trips_c: Dict[str, float]
    cooling: List[Tuple[str, Attribute]]
    over_current: List[Tuple[str, Attribute]] = field(default_factory=list)

    def temps_c(self) -> Dict[str, float | None]:
        """Every zone, °C; None for one that is off or gone."""
        return {name: _celsius(sensor.number()) for name, sensor in self.zones}

    def cooling_states(self) -> Dict[str, int]:
        """The state of each kind of cooling device; of several of one kind, the highest."""
        states: Dict[str, int] = {}
        for name, device in self.cooling:
            state = device.number()
            if state is not None and state >= 0:
                states[name] = max(state, states.get(name, 0))
        return states

    def over_current_events(self) -> Dict[str, int]:
        """Counters since boot, by name (`oc1` is under-voltage, `oc2` mean and `oc3` instantaneous over-current)."""
        counts = {name: counter.number() for name, counter in self.over_current}
        return {name: count for name, count in counts.items() if count is not None}

    def attributes(self) -> Iterator[Attribute]:
        """Everything that it holds open."""
        for group in (self.zones, self.cooling, self.over_current):
            yield from (attribute for _, attribute in group)


def find_heat(root: Path) -> Heat:
    """The sensors, cooling devices and counters below `root`, found by their types."""
    zones: List[Tuple[str, Attribute]] = []
    trips_c: Dict[str, float] = {}
    for folder in _numbered(root / _CLASS, "thermal_zone"):
        kind = _word(folder / "type")
        if kind:
            name = _free(zone_name(kind), [taken for taken, _ in zones])
            zones.append((name, Attribute(folder / "temp")))
            trip_c = _lowest_trip_c(folder)
            if trip_c is not None and name != _CONSTANT:
                trips_c[name] = trip_c
    for name, attribute in _chip_sensors(root):
        zones.append((_free(name, [taken for taken, _ in zones]), attribute))
    devices = [(_word(folder / "type"), folder) for folder in _numbered(root / _CLASS, "cooling_device")]
    cooling = [(kind, Attribute(folder / "cur_state")) for kind, folder in devices if kind]
    constants = tuple(name for name, _ in zones if name == _CONSTANT)
    return Heat(zones, constants, trips_c, cooling, list(_over_current_counters(root)))


def zone_name(kind: str) -> str:
    """A zone's type as tegrastats prints it: `cpu-thermal` is cpu, `CPU-therm` is CPU, `Tboard_tegra` is Tboard."""
    kind = _PLACE.sub("", kind)
    if kind in _NAMED:
        return _NAMED[kind]
    if kind.startswith("iwlwifi"):
        return "iwlwifi"
    return next((kind[: -len(ending)] for ending in _ENDINGS if kind.endswith(ending) and kind != ending), kind)


def _lowest_trip_c(folder: Path) -> float | None:
    """Where the kernel begins to throttle by this zone; `active` points only start fans."""
    found = []
    for entry in names_in(folder):
        match = re.fullmatch(r"trip_point_([0-9]{1,3})_type", entry)
        if match is not None and _word(folder / entry) in _THROTTLING:
            millidegrees = whole_number(text_of(folder / f"trip_point_{match.group(1)}_temp", 64))
            if millidegrees is not None and 0 < millidegrees < _HOTTEST_MC:
                found.append(millidegrees / 1000)
    return min(found, default=None)


def _chip_sensors(root: Path) -> Iterator[Tuple[str, Attribute]]:
    for entry in names_in(root / _HWMON):
        folder = root / _HWMON / entry
        chip = _word(folder / "name")
        if chip not in _CHIPS:
            continue
        for file in names_in(folder):
            match = re.fullmatch(r"(temp[0-9]{1,3})_input", file)
            if match is not None:
                label = _word(folder / f"{match.group(1)}_label") or match.group(1)
                yield f"{chip}-{label.replace(' ', '-')}", Attribute(folder / file)


def _over_current_counters(root: Path) -> Iterator[Tuple[str, Attribute]]:
    for entry in names_in(root / _HWMON):
        folder = root / _HWMON / entry
        if _word(folder / "name") in _OVER_CURRENT:
            for file in names_in(folder):
                match = re.fullmatch(r"(oc[0-9]{1,2})_event_cnt", file)
                if match is not None:
                    yield match.group(1), Attribute(folder / file)


def _numbered(folder: Path, prefix: str) -> List[Path]:
    """Entries `prefix0`, `prefix1`, … in the order of their numbers."""
    matches = [re.fullmatch(rf"{prefix}([0-9]{{1,4}})", name) for name in names_in(folder)]
    found = sorted((int(match.group(1)), match.group(0)) for match in matches if match is not None)
    return [folder / name for _, name in found]


def _free(name: str, taken: List[str]) -> str:
    """The name, with a number behind it where there is such a zone already."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _celsius(millidegrees: int | None) -> float | None:
    if millidegrees is None or not _COLDEST_MC < millidegrees < _HOTTEST_MC:
        return None
    value = millidegrees / 1000
    return int(value) if value.is_integer() else value


def _word(path: Path) -> str:
    return printable(text_of(path, 64))
