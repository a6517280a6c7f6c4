"""Which source tells of this machine: the first of a fixed order that has something to tell, and why not the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.device.telemetry.board_choice import KINDS
from edge_runtime.device.telemetry.source import Source
from edge_runtime.device.telemetry.sources.jtop import JtopSource
from edge_runtime.device.telemetry.sources.nvml import NvmlSource
from edge_runtime.device.telemetry.sources.rapl import RaplSource
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.device.telemetry.sources.tegrastats import TegrastatsSource, find_tegrastats
from edge_runtime.device.telemetry.tegrastats.line import sample_from_line
from edge_runtime.errors import ConfigError, TelemetryError, nearest

_IN_USE = "in use"
_TRIAL_S = 3.0
_TRIAL_INTERVAL_S = 0.2
_NO_POWER = "it tells no power"


@dataclass(frozen=True)
class Chosen:
    """The source, which the caller owns, or None; and of every kind looked at why it was, or wasn't, taken."""

    source: Source | None
    verdicts: Tuple[Tuple[str, str], ...]


@dataclass(frozen=True)
class _Site:
    root: Path
    interval_s: float
    device: DeviceInfo


def open_source(kind: str = "auto", root: Path = Path("/"), interval_s: float = 0.1) -> Chosen:
    """Opens the source named, or for `auto` the first that tells power, else the first that tells anything.

    `auto` goes through sysfs, tegrastats, NVML and RAPL, as far as they can be on such a machine; jtop only by name.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"telemetry source {kind!r}: {nearest(kind, KINDS)}")
    if kind == "none":
        return Chosen(None, (("none", "asked for"),))
    site = _Site(root, interval_s, identify(root))
    if kind == "auto":
        return _first(site)
    try:
        return Chosen(_OPENERS[kind](site), ((kind, _IN_USE),))
    except TelemetryError as error:
        return Chosen(None, ((kind, str(error)),))


def _first(site: _Site) -> Chosen:
    """The first source that tells power; sysfs without it where none does."""
    verdicts: List[Tuple[str, str]] = []
    for kind in _order(site.device):
        try:
            has_power = _POWER[kind](site)
            if has_power:
                source = _OPENERS[kind](site)
                return Chosen(source, (*verdicts, (kind, _IN_USE), *_not_asked(site)))
            verdicts.append((kind, _NO_POWER))
        except TelemetryError as error:
            verdicts.append((kind, str(error)))
    fallback = next((kind for kind, why in verdicts if why == _NO_POWER), None)
    if fallback is None:
        return Chosen(None, (*verdicts, *_not_asked(site), ("none", _IN_USE)))
    shown = tuple((kind, f"{_IN_USE}, though {why}" if kind == fallback else why) for kind, why in verdicts)
    return Chosen(_OPENERS[fallback](site), (*shown, *_not_asked(site)))


def _order(device: DeviceInfo) -> Tuple[str, ...]:
    if device.kind == "jetson":
        return ("sysfs", "tegrastats", "nvml")
    return ("nvml", "rapl", "sysfs") if device.kind == "nvidia" else ("rapl", "sysfs")


def _not_asked(site: _Site) -> Tuple[Tuple[str, str], ...]:
    return (("jtop", "only by name"),) if site.device.kind == "jetson" else ()


def _sysfs_has_power(site: _Site) -> bool:
    source = SysfsSource(site.root)
    try:
        return bool(source.read().power_mw)
    finally:
        source.close()


def _tegrastats_has_power(site: _Site) -> bool:
    """Whether its first sample has rails. The child of the trial is not the one that is used: it ends with its thread.

    Raises:
        TelemetryError: there is none, it ended, or it was silent for 3 s.
    """
    source = _tegrastats(site, _TRIAL_INTERVAL_S)
    try:
        sample = source.read(_TRIAL_S)
    finally:
        source.close()
    if sample is None:
        raise TelemetryError(f"tegrastats: no sample in {_TRIAL_S:g} s")
    return bool(sample.power_mw)


def _nvml_has_power(_: _Site) -> bool:
    source = NvmlSource()
    try:
        return source.read().total_power is not None
    finally:
        source.close()


def _rapl_has_power(site: _Site) -> bool:
    RaplSource(site.root).close()
    return True


def _tegrastats(site: _Site, interval_s: float) -> TegrastatsSource:
    path = find_tegrastats(site.root)
    if path is None:
        raise TelemetryError("no tegrastats on PATH, in /usr/bin or in /usr/sbin")
    return TegrastatsSource(path, sample_from_line, interval_s, site.device.module)


_POWER: Dict[str, Callable[[_Site], bool]] = {
    "sysfs": _sysfs_has_power,
    "tegrastats": _tegrastats_has_power,
    "nvml": _nvml_has_power,
    "rapl": _rapl_has_power,
}
_OPENERS: Dict[str, Callable[[_Site], Source]] = {
    "sysfs": lambda site: SysfsSource(site.root),
    "tegrastats": lambda site: _tegrastats(site, site.interval_s),
    "jtop": lambda site: JtopSource(site.interval_s, site.device.module),
    "nvml": lambda site: NvmlSource(SysfsSource(site.root)),
    "rapl": lambda site: RaplSource(site.root, SysfsSource(site.root)),
}
