"""Telemetry straight from /sys and /proc: no root, no child process, the best rate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

from edge_runtime.device.files import names_in
from edge_runtime.device.identity import identify
from edge_runtime.device.telemetry.sample import Rail, TelemetrySample
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.sources.attribute import Attribute
from edge_runtime.device.telemetry.sources.sysfs_cpu import CoreLoads, find_cpus
from edge_runtime.device.telemetry.sources.sysfs_gpu import find_gpu
from edge_runtime.device.telemetry.sources.sysfs_memory import find_memory
from edge_runtime.device.telemetry.sources.sysfs_power import RailSensor, find_rails
from edge_runtime.device.telemetry.sources.sysfs_thermal import find_heat
from edge_runtime.device.telemetry.totals import total_power
from edge_runtime.errors import TelemetryError

# Parts that seldom change: equal ones are shared by samples, or an hour of them would be large.
_SHARED = ("swap", "cpu_limits", "gpu_limits", "constants", "trips_c", "cooling", "over_current_events")
_LOOK_AGAIN_NS = 2_000_000_000
# Where sensors come and go: a Thor's GPU, drivers that load after this process began.
_WATCHED = (
    "sys/class/thermal",
    "sys/class/hwmon",
    "sys/class/devfreq",
    "sys/bus/i2c/drivers/ina3221",
    "sys/bus/i2c/drivers/ina3221x",
)


class SysfsSource:
    """The board or PC whose /sys and /proc are below `root`.

    Sensors are found by type and label when it is made, and again when, every 2 s at most, their folders are seen to
    have changed. What can't be read is None in the sample; a zone that was there once stays in it.
    """

    is_paced = False

    def __init__(self, root: Path = Path("/"), clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._root = root
        self._clock = clock
        self.origin = Origin("sysfs", module=identify(root).module)
        self._loads = CoreLoads()
        self._zones: Dict[str, float | None] = {}
        self._last: Dict[str, Any] = {}
        self._find()

    @property
    def rails(self) -> Tuple[RailSensor, ...]:
        """The power rails that were found."""
        return tuple(self._rails)

    def read(self, timeout_s: float = 0.0) -> TelemetrySample:  # noqa: ARG002  (nothing here waits)
        """Everything that can be read now.

        Raises:
            TelemetryError: there is nothing to read below the root at all.
        """
        self._look_again()
        fields = self._fields()
        if not _is_any_read(fields):
            raise TelemetryError(f"nothing of {self._root / 'sys'} and {self._root / 'proc'} can be read; mount them")
        for name in _SHARED:
            if name in self._last and fields[name] == self._last[name]:
                fields[name] = self._last[name]
        self._last = fields
        return TelemetrySample(**fields)

    def close(self) -> None:
        """Closes every file."""
        for attribute in self._attributes():
            attribute.close()

    def _find(self) -> None:
        self._listing = self._listed()
        self._looked_ns = self._clock()
        self._rails: List[RailSensor] = find_rails(self._root)
        self._heat = find_heat(self._root)
        self._gpu = find_gpu(self._root)
        self._cpus = find_cpus(self._root)
        self._memory = find_memory(self._root)
        self._zones.update(dict.fromkeys((name for name, _ in self._heat.zones)))

    def _listed(self) -> List[List[str]]:
        return [names_in(self._root / folder) for folder in _WATCHED]

    def _look_again(self) -> None:
        if self._clock() - self._looked_ns < _LOOK_AGAIN_NS:
            return
        self._looked_ns = self._clock()
        if self._listed() != self._listing:
            self.close()
            self._find()

    def _fields(self) -> Dict[str, Any]:
        readings = ((sensor.name, sensor.read()) for sensor in self._rails)
        rails: Dict[str, Rail] = {name: rail for name, rail in readings if rail is not None}
        cooling = self._heat.cooling_states()
        for sensor in self._rails:
            states = ((name, alarm.number()) for name, alarm in sensor.alarms.items())
            cooling.update({name: state for name, state in states if state is not None})
        cpus, cpu_limits = self._cpus.read(self._loads)
        ram, swap = self._memory.read()
        return {
            "ram": ram,
            "swap": swap,
            "cpus": cpus,
            "cpu_limits": cpu_limits,
            "emc": self._memory.bus(),
            "gr3d": self._gpu.read(),
            "gpu_limits": self._gpu.limits(),
            "temps_c": {**self._zones, **self._heat.temps_c()},
            "constants": self._heat.constants,
            "trips_c": dict(self._heat.trips_c),
            "power_mw": rails,
            "total_power": total_power(rails, self.origin.module),
            "cooling": cooling,
            "over_current_events": self._heat.over_current_events(),
        }

    def _attributes(self) -> Iterator[Attribute]:
        for sensor in self._rails:
            yield from sensor.attributes()
        yield from self._heat.attributes()
        yield from self._gpu.attributes()
        yield from self._cpus.attributes()
        yield from self._memory.attributes()


def _is_any_read(fields: Dict[str, Any]) -> bool:
    """Whether a reading gave anything; names, trip points and constants are known from before it."""
    known = ("temps_c", "trips_c", "constants")
    is_warm = any(value is not None for value in fields["temps_c"].values())
    return is_warm or any(value for name, value in fields.items() if name not in known)
