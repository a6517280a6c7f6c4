"""One look at a board: memory, load, clocks, temperatures and power. What a source doesn't tell is None, never 0.

Units are in the names; "mb" are MiB and "kb" KiB, as tegrastats prints them; numbers are as fine as the source gives
them, a whole number as int.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Tuple, Union

Number = Union[int, float]


@dataclass(frozen=True)
class Ram:
    """Main memory; `lfb` is the largest free block and how many there are of that size."""

    used_mb: int
    total_mb: int
    lfb_blocks: int | None = None
    lfb_block_kb: int | None = None


@dataclass(frozen=True)
class Swap:
    """Swap space."""

    used_mb: int
    total_mb: int
    cached_mb: int | None = None


@dataclass(frozen=True)
class Iram:
    """The on-chip memory of a TX1 or Nano."""

    used_kb: int
    total_kb: int
    lfb_kb: int | None = None


@dataclass(frozen=True)
class Cpu:
    """A core that is on; `freq_mhz` is its clock now."""

    load_pct: Number | None
    freq_mhz: Number | None = None


@dataclass(frozen=True)
class Bus:
    """The memory controller (EMC), or a part like it with one load and one clock."""

    load_pct: Number | None
    freq_mhz: Number | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU; one clock for each of its clusters (GPC), all 0 while it is powered down."""

    load_pct: Number | None
    freq_mhz: Tuple[Number, ...] | None = None


@dataclass(frozen=True)
class HardwareEngine:
    """A fixed-function engine: video, JPEG, image or deep-learning accelerator."""

    is_on: bool
    load_pct: Number | None = None
    freq_mhz: Number | None = None


@dataclass(frozen=True)
class Rail:
    """Power of one rail in mW: now, and what the source itself prints as average and peak since it started."""

    cur_mw: Number
    avg_mw: Number | None = None
    peak_mw: Number | None = None


@dataclass(frozen=True)
class TotalPower:
    """The module's power now, by the module's own rule (a Thor's VIN is the whole board's).

    `how` is `input-rail`, `sum-of-rails`, or for other machines `gpu` (an NVML board power) or `package` (RAPL).
    """

    cur_mw: Number
    rails: Tuple[str, ...]
    how: str


@dataclass(frozen=True)
class Limits:
    """The clocks that are asked for or allowed, in MHz."""

    min_mhz: Number | None
    max_mhz: Number | None


@dataclass(frozen=True)
class TelemetrySample:
    """Everything that one source told at one moment.

    `temps_c` has None for a sensor that is off; `constants` are zones whose number is no reading (a PMIC's).
    `cooling` is the state of each cooling device (0: not acting), `over_current_events` counters since boot,
    `trips_c` the lowest temperature at which each zone throttles. `timestamp` is the board's own wall clock as the
    source printed it, ISO without a zone. `unknown` are words that were not understood.
    """

    timestamp: str | None = None
    ram: Ram | None = None
    swap: Swap | None = None
    iram: Iram | None = None
    cpus: Tuple[Cpu | None, ...] | None = None
    emc: Bus | None = None
    gr3d: Gpu | None = None
    gr3d2: Gpu | None = None
    engines: Mapping[str, HardwareEngine] = field(default_factory=dict)
    ape_mhz: Number | None = None
    mts_pct: Tuple[Number, Number] | None = None
    avp: Bus | None = None
    edp_limit_mhz: Number | None = None
    temps_c: Mapping[str, float | None] = field(default_factory=dict)
    temps_peak_c: Mapping[str, float | None] = field(default_factory=dict)
    constants: Tuple[str, ...] = ()
    power_mw: Mapping[str, Rail] = field(default_factory=dict)
    total_power: TotalPower | None = None
    cooling: Mapping[str, int] = field(default_factory=dict)
    over_current_events: Mapping[str, int] = field(default_factory=dict)
    trips_c: Mapping[str, float] = field(default_factory=dict)
    gpu_limits: Limits | None = None
    cpu_limits: Tuple[Limits | None, ...] = ()
    unknown: Tuple[str, ...] = ()

    @property
    def hottest(self) -> Tuple[str, float] | None:
        """The hottest zone and its temperature in °C, constants left out."""
        zones = [(name, value) for name, value in self.temps_c.items() if name not in self.constants]
        read = [(name, value) for name, value in zones if value is not None]
        return max(read, key=lambda zone: zone[1]) if read else None

    @property
    def hottest_c(self) -> float | None:
        """The highest temperature read, constants left out."""
        hottest = self.hottest
        return None if hottest is None else hottest[1]

    @property
    def cpu_load_pct(self) -> float | None:
        """Mean load of the cores that are on; None where none tells."""
        loads = [cpu.load_pct for cpu in self.cpus or () if cpu is not None and cpu.load_pct is not None]
        return sum(loads) / len(loads) if loads else None


@dataclass(frozen=True)
class Stamped:
    """A sample and the monotonic moment that it is true for (`time.perf_counter_ns`)."""

    at_ns: int
    sample: TelemetrySample
