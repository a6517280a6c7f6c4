"""Rails of a Jetson from sysfs: INA3221 by hwmon (JetPack 5 and later) or iio (JetPack 4), INA238 of a Thor.

An INA3221 measures in steps of 8 mV and of 40 uV over its shunt, so a small rail moves in steps of 40 to 155 mW, and
an idle one may read a little below zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Mapping

from edge_runtime.device.files import names_in, printable, text_of, whole_number
from edge_runtime.device.telemetry.sample import Rail
from edge_runtime.device.telemetry.sources.attribute import Attribute

_CHANNELS = range(1, 4)  # in4 to in6 are the shunts' own voltages, in7 their sum
_UNCONNECTED = "NC"
_BOARD_INPUT = "VIN"
_ALARMS = ("max", "crit")
_I2C = "sys/bus/i2c/drivers"


@dataclass(frozen=True)
class RailSensor:
    """Where a rail is read: mV and mA, or its power alone, `unit_mw` of it to a mW.

    `warn_ma` and `crit_ma` are the limits of the mean and of the instantaneous current, None where there are none.
    """

    name: str
    voltage: Attribute | None = None
    current: Attribute | None = None
    power: Attribute | None = None
    per_mw: int = 1
    warn_ma: int | None = None
    crit_ma: int | None = None
    alarms: Mapping[str, Attribute] = field(default_factory=dict)

    def read(self) -> Rail | None:
        """The power now, rounded to mW; None where it can't be read."""
        if self.power is not None:
            power = self.power.number()
            return None if power is None else Rail(round(power / self.per_mw))
        assert self.voltage is not None
        assert self.current is not None
        millivolts, milliamperes = self.voltage.number(), self.current.number()
        if millivolts is None or milliamperes is None:
            return None
        return Rail(round(millivolts * milliamperes / 1000))

    def attributes(self) -> Iterator[Attribute]:
        """Everything that it holds open."""
        yield from (each for each in (self.voltage, self.current, self.power) if each is not None)
        yield from self.alarms.values()


def find_rails(root: Path) -> List[RailSensor]:
    """The rails below `root`, found by their labels; of two with one name, the first."""
    found: Dict[str, RailSensor] = {}
    for folder in _monitors(root):
        for sensor in (*_hwmon_rails(folder), *_iio_rails(folder), *_ina238_rails(folder)):
            if sensor.name and sensor.name != _UNCONNECTED:
                found.setdefault(sensor.name, sensor)
    return list(found.values())


def _monitors(root: Path) -> Iterator[Path]:
    """Folders of power monitors, by driver and by class; links to one folder give it twice, which does no harm."""
    for driver in ("ina3221", "ina3221x", "ina238"):
        for chip in names_in(root / _I2C / driver):
            place = root / _I2C / driver / chip
            for name in names_in(place / "hwmon"):
                yield place / "hwmon" / name
            yield from (place / name for name in names_in(place) if name.startswith("iio"))
    for name in names_in(root / "sys/class/hwmon"):
        folder = root / "sys/class/hwmon" / name
        if _word(folder / "name") in ("ina3221", "ina238"):
            yield folder


def _hwmon_rails(folder: Path) -> Iterator[RailSensor]:
    for number in _CHANNELS:
        name = _word(folder / f"in{number}_label")
        if name:
            alarms = {kind: folder / f"curr{number}_{kind}_alarm" for kind in _ALARMS}
            yield RailSensor(
                name,
                voltage=Attribute(folder / f"in{number}_input"),
                current=Attribute(folder / f"curr{number}_input"),
                warn_ma=_number(folder / f"curr{number}_max"),
                crit_ma=_number(folder / f"curr{number}_crit"),
                alarms={f"{name}-{kind}-alarm": Attribute(path) for kind, path in alarms.items() if path.is_file()},
            )


def _iio_rails(folder: Path) -> Iterator[RailSensor]:
    for entry in names_in(folder):
        match = re.fullmatch(r"rail_name_([0-9]{1,2})", entry)
        if match is not None:
            number = match.group(1)
            yield RailSensor(
                _word(folder / entry),
                power=Attribute(folder / f"in_power{number}_input"),
                warn_ma=_number(folder / f"warn_current_limit_{number}"),
                crit_ma=_number(folder / f"crit_current_limit_{number}"),
            )


def _ina238_rails(folder: Path) -> Iterator[RailSensor]:
    """A Thor's board input, which has no label of its own."""
    if _word(folder / "name") == "ina238":
        name = _word(folder / "power1_label") or _BOARD_INPUT
        yield RailSensor(name, power=Attribute(folder / "power1_input"), per_mw=1000)


def _word(path: Path) -> str:
    return printable(text_of(path, 64))


def _number(path: Path) -> int | None:
    """A current limit; some releases print the unit behind it."""
    return whole_number(text_of(path, 64).partition(" ")[0])
