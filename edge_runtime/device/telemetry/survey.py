"""What of this machine can be told, by which source, and what its module and power modes are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from edge_runtime.device.capabilities import Capabilities, capabilities
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.device.power_mode import PowerMode, current_power_mode, has_pinned_clocks
from edge_runtime.device.power_mode_settings import PowerModeSettings, power_mode_settings
from edge_runtime.device.telemetry.choice import open_source
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.sources.sysfs import SysfsSource
from edge_runtime.errors import TelemetryError

_LOOKED_AT = ("sysfs", "tegrastats", "nvml", "rapl")
_PATIENCE_S = 3.0
_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Survey:
    """What was found. `tells` has every source that was looked at and what it tells, or why it tells nothing.

    `verdicts` are those of the choice among them; `rails` the current limits of sysfs' rails, mA.
    """

    device: DeviceInfo
    capabilities: Capabilities
    modes: Tuple[PowerModeSettings, ...]
    mode: PowerMode | None
    has_pinned_clocks: bool | None
    tells: Tuple[Tuple[str, str], ...]
    used: str | None
    verdicts: Tuple[Tuple[str, str], ...]
    rails: Tuple[Tuple[str, int | None, int | None], ...]

    def record(self) -> Dict[str, Any]:
        """As `telemetry sources --json` prints it."""
        return {
            "device": self.device.record(),
            "capabilities": self.capabilities.record(),
            "sources": [{"source": name, "tells": text} for name, text in self.tells],
            "used": self.used,
            "verdicts": [{"source": name, "why": why} for name, why in self.verdicts],
            "rails": [{"name": name, "warn_ma": warn, "crit_ma": crit} for name, warn, crit in self.rails],
            "power_mode": None if self.mode is None else {"id": self.mode.id, "name": self.mode.name},
            "has_pinned_clocks": self.has_pinned_clocks,
            "power_modes": [mode.record() for mode in self.modes],
        }


def survey(root: Path = Path("/")) -> Survey:
    """Looks at the machine below `root`; takes a second or two where it starts tegrastats. jtop isn't asked."""
    device = identify(root)
    chosen = open_source("auto", root, _INTERVAL_S)
    if chosen.source is not None:
        chosen.source.close()
    sysfs = SysfsSource(root)
    sysfs.close()
    return Survey(
        device=device,
        capabilities=capabilities(device),
        modes=tuple(power_mode_settings(root)),
        mode=current_power_mode(root),
        has_pinned_clocks=has_pinned_clocks(root),
        tells=tuple((kind, _told(kind, root)) for kind in _LOOKED_AT),
        used=None if chosen.source is None else chosen.source.origin.source,
        verdicts=chosen.verdicts,
        rails=tuple((rail.name, rail.warn_ma, rail.crit_ma) for rail in sysfs.rails),
    )


def _told(kind: str, root: Path) -> str:
    found = open_source(kind, root, _INTERVAL_S)
    if found.source is None:
        return found.verdicts[0][1]
    try:
        sample = found.source.read(_PATIENCE_S)
    except TelemetryError as error:
        return str(error)
    finally:
        found.source.close()
    return "no sample" if sample is None else _contents(sample)


def _contents(sample: TelemetrySample) -> str:
    parts: List[str] = []
    total = sample.total_power
    if sample.power_mw:
        parts.append(f"power of {len(sample.power_mw)} rails" + ("" if total is None else f" (total: {total.how})"))
    zones = [name for name, value in sample.temps_c.items() if value is not None]
    if zones:
        parts.append(f"{len(zones)} temperatures")
    if sample.gr3d is not None:
        known = [("load", sample.gr3d.load_pct), ("clock", sample.gr3d.freq_mhz)]
        parts.append("GPU " + " and ".join(name for name, value in known if value is not None))
    if sample.cpus:
        parts.append(f"{sum(cpu is not None for cpu in sample.cpus)} cores")
    if sample.ram is not None:
        parts.append("memory")
    if sample.cooling:
        parts.append(f"{len(sample.cooling)} throttle signals")
    return ", ".join(parts) or "nothing"
