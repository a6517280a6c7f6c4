"""Power of a PC's processor packages by RAPL's energy counters, beside what its sysfs tells."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, List

from edge_runtime.device.files import names_in, printable, text_of, whole_number
from edge_runtime.device.telemetry.sample import Rail, TelemetrySample, TotalPower
from edge_runtime.device.telemetry.source import Origin, Source
from edge_runtime.device.telemetry.sources.attribute import Attribute
from edge_runtime.errors import TelemetryError

_POWERCAP = "sys/class/powercap"
_LEAST_NS = 5_000_000  # the counters move once in a millisecond


@dataclass(frozen=True)
class EnergyCounter:
    """A counter of microjoules that begins again at `range_uj`."""

    name: str
    energy: Attribute
    range_uj: int | None

    def spent_uj(self, before_uj: int, now_uj: int) -> int | None:
        """The energy between two readings; None if it went back and nobody knows how far it counts."""
        if now_uj >= before_uj:
            return now_uj - before_uj
        return None if self.range_uj is None else now_uj - before_uj + self.range_uj


class RaplSource:
    """Packages (and what RAPL counts beside them) below `root`; `host`, which it then owns, gives everything else.

    Power is the mean since the reading before, so the first sample has none. The total is that of the packages: DRAM
    is not in them everywhere, and the platform (`psys`) holds them.
    """

    is_paced = False

    def __init__(
        self,
        root: Path = Path("/"),
        host: Source | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Finds the counters.

        Raises:
            TelemetryError: there are none, or this process may not read them.
        """
        self._host = host
        self._clock = clock
        self._counters = _counters(root)
        self._before: Dict[str, int] = {}
        self._before_ns = 0
        self._rails: Dict[str, Rail] = {}
        self.origin = Origin("rapl")
        if not self._counters:
            raise TelemetryError(f"no RAPL counter in {root / _POWERCAP}: not an Intel or AMD processor, or a guest")
        if all(counter.energy.number() is None for counter in self._counters):
            self._close_counters()
            path = self._counters[0].energy.path
            raise TelemetryError(f"{path} can't be read: the kernel lets root only; run: sudo chmod a+r {path}")

    def read(self, timeout_s: float = 0.0) -> TelemetrySample:
        """The host now, and the power since the reading before.

        Raises:
            TelemetryError: the counters can't be read any more.
        """
        host = None if self._host is None else self._host.read(timeout_s)
        if host is None:
            host = TelemetrySample()
        self._update()
        return replace(host, power_mw={**host.power_mw, **self._rails}, total_power=self._total())

    def close(self) -> None:
        """Closes every file, and the host's source."""
        self._close_counters()
        if self._host is not None:
            self._host.close()

    def _update(self) -> None:
        now_ns = self._clock()
        elapsed_ns = now_ns - self._before_ns
        if self._before and elapsed_ns < _LEAST_NS:
            return
        readings = {counter.name: counter.energy.number() for counter in self._counters}
        now = {name: energy_uj for name, energy_uj in readings.items() if energy_uj is not None}
        if not now:
            self._before = {}
            raise TelemetryError(f"{self._counters[0].energy.path} can't be read any more")
        self._rails = {}
        for counter in self._counters:
            if counter.name in now and counter.name in self._before:
                spent_uj = counter.spent_uj(self._before[counter.name], now[counter.name])
                if spent_uj is not None:  # uJ / ns = 1e6 mW
                    self._rails[counter.name] = Rail(round(spent_uj * 1e6 / elapsed_ns))
        self._before, self._before_ns = now, now_ns

    def _total(self) -> TotalPower | None:
        packages = tuple(counter.name for counter in self._counters if counter.name.startswith("package"))
        if not packages or any(name not in self._rails for name in packages):
            return None
        return TotalPower(sum(self._rails[name].cur_mw for name in packages), packages, "package")

    def _close_counters(self) -> None:
        for counter in self._counters:
            counter.energy.close()


def _counters(root: Path) -> List[EnergyCounter]:
    """Zones and the parts of a zone, by RAPL's own names; a part's has its package's before it where there are two."""
    found: Dict[str, EnergyCounter] = {}
    for entry in names_in(root / _POWERCAP):
        match = re.fullmatch(r"intel-rapl:([0-9]{1,3})(:[0-9]{1,3})?", entry)
        folder = root / _POWERCAP / entry
        name = printable(text_of(folder / "name", 64))
        if match is None or not name:
            continue
        if match.group(2) is not None and name in found:
            name = f"{match.group(1)}-{name}"
        if name not in found:
            span_uj = whole_number(text_of(folder / "max_energy_range_uj", 64))
            found[name] = EnergyCounter(name, Attribute(folder / "energy_uj"), span_uj)
    return list(found.values())
