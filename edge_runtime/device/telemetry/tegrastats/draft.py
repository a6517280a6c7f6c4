"""A sample while its line is read: each word is taken once, and what isn't understood is kept."""

from __future__ import annotations

import datetime
import re
from typing import Any, Callable, Dict, List, Match, Tuple

from edge_runtime.device.telemetry.constants import constants_in
from edge_runtime.device.telemetry.sample import (
    Bus,
    Cpu,
    Gpu,
    HardwareEngine,
    Iram,
    Number,
    Rail,
    Ram,
    Swap,
    TelemetrySample,
)
from edge_runtime.device.telemetry.tegrastats.grammar import CPU_ITEM
from edge_runtime.device.telemetry.totals import total_power

_VALUE = re.compile(r"[-@\[(0-9]|off$")
_OFF_C = -256  # what the kernel gives for a sensor whose domain is powered down


class Draft:
    """What a line told so far."""

    def __init__(self) -> None:
        self.fields: Dict[str, Any] = {}
        self.engines: Dict[str, HardwareEngine] = {}
        self.temps_c: Dict[str, float | None] = {}
        self.temps_peak_c: Dict[str, float | None] = {}
        self.rails: Dict[str, Rail] = {}
        self.unknown: List[str] = []

    def take(self, kind: str, match: Match[str]) -> bool:
        """Takes one word in; False if it can't be, or was there already."""
        return _TAKERS[kind](self, match)

    def keep(self, word: str, is_after_name: bool) -> None:
        """Keeps a word that isn't understood; a value goes with the name right before it."""
        if is_after_name and _VALUE.match(word) and " " not in self.unknown[-1]:
            self.unknown[-1] += f" {word}"
        else:
            self.unknown.append(word)

    def sample(self) -> TelemetrySample:
        """All of it."""
        return TelemetrySample(
            **self.fields,
            engines=self.engines,
            temps_c=self.temps_c,
            temps_peak_c=self.temps_peak_c,
            constants=constants_in(self.temps_c),
            power_mw=self.rails,
            total_power=total_power(self.rails),
            unknown=tuple(self.unknown),
        )

    def put(self, field: str, value: Any) -> bool:
        """Sets a field that isn't set yet."""
        if value is None or field in self.fields:
            return False
        self.fields[field] = value
        return True


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)


def _degrees(text: str) -> float | None:
    value = float(text) if "." in text else int(text)
    return None if value == _OFF_C else value


def _clocks(text: str | None) -> Tuple[Number, ...] | None:
    return None if text is None else tuple(int(part) for part in text.strip("[]").split(","))


def _cpus(listed: str, clock: str | None) -> Tuple[Cpu | None, ...] | None:
    """The cores in order; None if an item is neither `off` nor a load."""
    cores: List[Cpu | None] = []
    for item in listed.split(","):
        match = CPU_ITEM.fullmatch(item)
        if match is None and item != "off":
            return None
        cores.append(None if match is None else Cpu(int(match[1]), _whole(match[2] or clock)))
    return tuple(cores)


def _timestamp(match: Match[str]) -> str | None:
    month, day, year, *time = (int(part) for part in match.groups())
    try:
        return datetime.datetime(year, month, day, *time).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return None


def _take_stamp(draft: Draft, match: Match[str]) -> bool:
    return draft.put("timestamp", _timestamp(match))


def _take_ram(draft: Draft, match: Match[str]) -> bool:
    size = None if match[4] is None else int(match[4]) * (1024 if match[5] == "M" else 1)
    return draft.put("ram", Ram(int(match[1]), int(match[2]), _whole(match[3]), size))


def _take_swap(draft: Draft, match: Match[str]) -> bool:
    return draft.put("swap", Swap(int(match[1]), int(match[2]), _whole(match[3])))


def _take_iram(draft: Draft, match: Match[str]) -> bool:
    return draft.put("iram", Iram(int(match[1]), int(match[2]), _whole(match[3])))


def _take_cpus(draft: Draft, match: Match[str]) -> bool:
    return draft.put("cpus", _cpus(match[1], match[2]))


def _bus_taker(field: str) -> Callable[[Draft, Match[str]], bool]:
    def take(draft: Draft, match: Match[str]) -> bool:
        clocks = _clocks(match[2]) or (None,)
        return len(clocks) == 1 and draft.put(field, Bus(_whole(match[1]), clocks[0]))

    return take


def _gpu_taker(field: str) -> Callable[[Draft, Match[str]], bool]:
    return lambda draft, match: draft.put(field, Gpu(_whole(match[1]), _clocks(match[2])))


def _number_taker(field: str) -> Callable[[Draft, Match[str]], bool]:
    return lambda draft, match: draft.put(field, int(match[1]))


def _take_mts(draft: Draft, match: Match[str]) -> bool:
    return draft.put("mts_pct", (int(match[1]), int(match[2])))


def _take_engine(draft: Draft, match: Match[str]) -> bool:
    name, off, load, clock, bare, loads, *clocks = match.groups()
    if name in draft.engines:
        return False
    if loads is not None:  # of several units: the busiest
        load, clock = str(max(int(each) for each in loads.replace("%", "").split(","))), clocks[0] or clocks[1]
    draft.engines[name] = HardwareEngine(off is None, _whole(load), _whole(clock or bare))
    return True


def _take_zone(draft: Draft, match: Match[str]) -> bool:
    name, now, peak = match.groups()
    if name in draft.temps_c:
        return False
    draft.temps_c[name] = _degrees(now)
    if peak is not None:
        draft.temps_peak_c[name] = _degrees(peak)
    return True


def _take_rail(draft: Draft, match: Match[str]) -> bool:
    name, now, average, peak, bare_now, bare_average = match.groups()
    if name == "NC":  # a channel that isn't connected; a board has several
        return True
    if name in draft.rails:
        return False
    draft.rails[name] = Rail(int(now or bare_now), int(average or bare_average), _whole(peak))
    return True


_TAKERS: Dict[str, Callable[[Draft, Match[str]], bool]] = {
    "stamp": _take_stamp,
    "ram": _take_ram,
    "swap": _take_swap,
    "iram": _take_iram,
    "cpus": _take_cpus,
    "emc": _bus_taker("emc"),
    "avp": _bus_taker("avp"),
    "gr3d": _gpu_taker("gr3d"),
    "gr3d2": _gpu_taker("gr3d2"),
    "ape_mhz": _number_taker("ape_mhz"),
    "edp_limit_mhz": _number_taker("edp_limit_mhz"),
    "mts_pct": _take_mts,
    "engine": _take_engine,
    "zone": _take_zone,
    "rail": _take_rail,
}
