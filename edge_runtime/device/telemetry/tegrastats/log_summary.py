"""A log in figures: power, energy, load, heat and memory over all of its samples."""

from __future__ import annotations

import collections
import math
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from edge_runtime.device.telemetry.sample import Gpu, Number, Ram, TelemetrySample
from edge_runtime.device.telemetry.tegrastats.log_times import Timeline


@dataclass
class Range:
    """Mean and bounds of the values seen, with the first and the last."""

    n: int
    sum: Number
    min: Number
    max: Number
    first: Number
    last: Number

    @property
    def mean(self) -> float:
        """Of all values."""
        return self.sum / self.n

    @staticmethod
    def extended(known: Range | None, value: Number) -> Range:
        """The range with one value more."""
        if known is None:
            return Range(1, value, value, value, value, value)
        known.n, known.sum, known.last = known.n + 1, known.sum + value, value
        known.min, known.max = min(known.min, value), max(known.max, value)
        return known


class LogSummary:
    """Figures of a log, sample by sample; it keeps no sample, but each one's total power.

    `total_kinds` counts each rule that gave a total (`how` and rails): with more than one, `total_mw` mixes kinds.
    """

    def __init__(self) -> None:
        self.totals_mw: List[float] = []  # NaN where there is none
        self.total_mw: Range | None = None
        self.total_kinds: collections.Counter[Tuple[str, Tuple[str, ...]]] = collections.Counter()
        self.gpu_load_pct: Range | None = None
        self.gpu_mhz: Range | None = None
        self.cpu_mhz: Range | None = None
        self.emc_mhz: Range | None = None
        self.ram_used_mb: Range | None = None
        self.ram_total_mb: Range | None = None
        self.max_temp_c: Dict[str, float] = {}
        self.online_cpus: collections.Counter[int] = collections.Counter()
        self.first_timestamp: str | None = None
        self.last_timestamp: str | None = None

    def add(self, sample: TelemetrySample) -> None:
        """Takes the next sample in."""
        if sample.timestamp is not None:
            self.first_timestamp = self.first_timestamp or sample.timestamp
            self.last_timestamp = sample.timestamp
        self._add_power(sample)
        self._add_clocks(sample)
        self._add_memory(sample.ram)
        for name, value in sample.temps_c.items():
            if value is not None and name not in sample.constants:
                self.max_temp_c[name] = max(value, self.max_temp_c.get(name, value))

    def energy_j(self, timeline: Timeline) -> float | None:
        """The total power by trapezoids over the samples' times, gaps left out; None without printed times or power."""
        if not timeline.is_printed or self.total_mw is None:
            return None
        return trapezoid_j(self.totals_mw, timeline)

    def _add_power(self, sample: TelemetrySample) -> None:
        total = sample.total_power
        self.totals_mw.append(math.nan if total is None else float(total.cur_mw))
        if total is not None:
            self.total_mw = Range.extended(self.total_mw, total.cur_mw)
            self.total_kinds[(total.how, total.rails)] += 1

    def _add_clocks(self, sample: TelemetrySample) -> None:
        gpu = sample.gr3d or Gpu(None)
        if gpu.load_pct is not None:
            self.gpu_load_pct = Range.extended(self.gpu_load_pct, gpu.load_pct)
        for clock in gpu.freq_mhz or ():
            self.gpu_mhz = Range.extended(self.gpu_mhz, clock)
        if sample.emc is not None and sample.emc.freq_mhz is not None:
            self.emc_mhz = Range.extended(self.emc_mhz, sample.emc.freq_mhz)
        if sample.cpus is not None:
            online = [cpu for cpu in sample.cpus if cpu is not None]
            self.online_cpus[len(online)] += 1
            for clock in (cpu.freq_mhz for cpu in online if cpu.freq_mhz is not None):
                self.cpu_mhz = Range.extended(self.cpu_mhz, clock)

    def _add_memory(self, ram: Ram | None) -> None:
        if ram is not None:
            self.ram_used_mb = Range.extended(self.ram_used_mb, ram.used_mb)
            self.ram_total_mb = Range.extended(self.ram_total_mb, ram.total_mb)


def trapezoid_j(totals_mw: Sequence[float], timeline: Timeline) -> float:
    """Joules of the total power over the times; steps over a gap, or with an unknown end, have none."""
    gaps = frozenset(timeline.gaps)
    energy_mj = 0.0
    for index in range(1, len(totals_mw)):
        mean_mw = (totals_mw[index - 1] + totals_mw[index]) / 2
        if index not in gaps and not math.isnan(mean_mw):
            energy_mj += mean_mw * (timeline.times_s[index] - timeline.times_s[index - 1])
    return energy_mj / 1000
