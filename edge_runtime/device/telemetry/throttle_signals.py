"""What single values of a sample say about throttling: names of cooling devices and counters, clocks under load."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Tuple

from edge_runtime.device.telemetry.sample import Limits, Number, TelemetrySample

THERMAL, OVER_CURRENT, UNDER_VOLTAGE, CLOCK = "thermal", "over-current", "under-voltage", "clock"

# Kernel cooling devices that lower a clock (`-balanced`: JetPack 4 and before); a fan is one that doesn't.
_COOLING = re.compile(
    r".*-throttle-alert|hot-surface-alert|(thermal-)?(devfreq|cpufreq)-.*|(cpu|gpu|skin|emergency)-balanced"
)
_CURRENT_ALARM = re.compile(r".*-(max|crit)-alarm")  # a rail's, over its mean or its highest current
# NVML's reasons (nvml-<name>); idle, set clocks and boost groups are no throttling.
_NVML_CAUSES = (
    (re.compile(r"nvml-.*thermal.*"), THERMAL),
    (re.compile(r"nvml-.*power.*"), OVER_CURRENT),
    (re.compile(r"nvml-.*hw.*slowdown.*"), CLOCK),
)
_COUNTERS = ((re.compile(r"oc1(\D.*)?"), UNDER_VOLTAGE), (re.compile(r"oc\d+(\D.*)?"), OVER_CURRENT))

_FULL_LOAD_PCT = 95
_JITTER = 0.98  # a clock that is read wanders by so much
_WELL_BELOW = 0.9


@dataclass(frozen=True)
class Throttle:
    """Something that slows the board: one of four causes, and the device, counter or processor that shows it."""

    cause: str
    where: str
    detail: str


def cooling_cause(name: str) -> str | None:
    """What a cooling device that acts means; None if it slows nothing."""
    lower = name.lower().replace("_", "-")
    if lower.startswith("nvml-"):
        return next((cause for pattern, cause in _NVML_CAUSES if pattern.fullmatch(lower)), None)
    if _CURRENT_ALARM.fullmatch(lower):
        return OVER_CURRENT
    return THERMAL if _COOLING.fullmatch(lower) else None


def counter_cause(name: str) -> str | None:
    """What a counter that rises means: oc1 is under-voltage, the others over-current; None for one that isn't known."""
    return next((cause for pattern, cause in _COUNTERS if pattern.fullmatch(name.lower())), None)


def acting(sample: TelemetrySample) -> Iterator[Throttle]:
    """The cooling devices and alarms that act now."""
    for name, state in sorted(sample.cooling.items()):
        cause = cooling_cause(name)
        if cause is not None and state > 0:
            yield Throttle(cause, name, f"state {state}")


def low_clocks(sample: TelemetrySample) -> Iterator[Throttle]:
    """Processors at full load with a clock below what is asked for, or a GPU well below what is allowed."""
    gpu = sample.gr3d
    if gpu is not None and gpu.freq_mhz and sample.gpu_limits is not None:
        yield from _low("gpu", gpu.load_pct, max(gpu.freq_mhz), sample.gpu_limits)
    for index, (cpu, limits) in enumerate(zip(sample.cpus or (), sample.cpu_limits)):
        if cpu is not None and limits is not None:
            yield from _low(f"cpu{index}", cpu.load_pct, cpu.freq_mhz, Limits(limits.min_mhz, None))


def told_causes(sample: TelemetrySample) -> Tuple[str, ...]:
    """The causes that the sample would show if they were there; a fan and temperatures show none."""
    told = {*map(cooling_cause, sample.cooling), *map(counter_cause, sample.over_current_events)}
    gpu, limits = sample.gr3d, sample.gpu_limits
    if gpu is not None and gpu.load_pct is not None and gpu.freq_mhz and _has(limits):
        told.add(CLOCK)
    return tuple(sorted(cause for cause in told if cause is not None))


def _has(limits: Limits | None) -> bool:
    return limits is not None and (limits.min_mhz is not None or limits.max_mhz is not None)


def _low(where: str, load_pct: Number | None, clock_mhz: Number | None, limits: Limits) -> Iterator[Throttle]:
    if load_pct is None or load_pct < _FULL_LOAD_PCT or not clock_mhz or clock_mhz < 0:
        return  # 0 MHz is a domain that is powered down
    if limits.min_mhz is not None and clock_mhz < limits.min_mhz * _JITTER:
        yield Throttle(CLOCK, where, f"{clock_mhz:g} MHz at {load_pct:g} % load, {limits.min_mhz:g} MHz asked for")
    elif limits.max_mhz is not None and clock_mhz < limits.max_mhz * _WELL_BELOW:
        yield Throttle(CLOCK, where, f"{clock_mhz:g} MHz at {load_pct:g} % load, {limits.max_mhz:g} MHz allowed")
