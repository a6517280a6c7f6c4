"""One trial of an energy measurement on a made-up load whose energy is known, and what naive samplers make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Sequence

import numpy as np
from fakes.ina3221 import Ina3221
from fakes.power_loads import IDLE_S, KnownEnergy, Load, sampled

from edge_runtime.profiler.energy import energy_per_inference
from edge_runtime.profiler.energy_baseline import baseline_from

SHORT_RUN_S = 3
IDLE_ENDS_NS = -500_000_000


@dataclass(frozen=True)
class Setting:
    """A load, a sensor, and how often it is read."""

    interval_s: float
    sensor: Ina3221 = field(default_factory=Ina3221)
    load: Load = field(default_factory=Load)

    @property
    def text(self) -> str:
        """The sensor's conversion, its average, and the time constant (of a block the length) that these make."""
        sensor = self.sensor
        kind = "block" if sensor.is_block else "exp."
        lag = f"{sensor.lag_s * 1e3:,.1f} ms" if sensor.lag_s < 1 else f"{sensor.lag_s:,.1f} s"
        return f"{sensor.conversion_s * 1e6:,.0f} us x {sensor.averages} ({kind}, {lag})"


@dataclass(frozen=True)
class Trial:
    """Errors relative to the truth, None where no number was given; and naive results as ratios to the truth."""

    gross: Optional[float]
    net: Optional[float]
    is_gross_in_2_errors: Optional[bool]
    refused: Optional[str]
    printed_average: float
    short_run: float


def trial(setting: Setting, seed: int) -> Trial:
    """The trial of a seed, which decides phases, jitter, losses and how power wanders."""
    rng = np.random.default_rng(seed)
    energy = KnownEnergy(setting.load, rng)
    samples = sampled(energy, setting.sensor, setting.interval_s, setting.load.run_s, rng)
    baseline = baseline_from([each for each in samples if each.at_ns < IDLE_ENDS_NS])
    result = energy_per_inference(samples, energy.calls_ns, baseline)
    gross, net = result.gross_mj, result.net_mj
    powers = np.array([each.sample.total_power.cur_mw for each in samples])
    return Trial(
        None if gross is None else gross.value / energy.gross_mj - 1,
        None if net is None else net.value / energy.net_mj - 1,
        None if gross is None else abs(gross.value - energy.gross_mj) <= 2 * gross.standard_error,
        result.refused,
        float(powers.mean()) * (energy.ends_s[-1] - energy.starts_s[0]) / len(energy.starts_s) / energy.gross_mj,
        _short_run(setting, energy, rng),
    )


def settings() -> List[Setting]:
    """What is tried: 1 ms kernels under every sensor and step, then loads and sensors that are harder."""
    rows = [Setting(step, Ina3221(averages=n)) for n in (1, 16, 128, 512, 1024) for step in (0.005, 0.02, 0.1)]
    rows += [Setting(step, Ina3221(averages=n)) for n in (1, 512) for step in (0.01, 0.05)]
    rows += [Setting(0.1, Ina3221(averages=n), Load(duty=0.5)) for n in (1, 512)]
    rows += [Setting(0.1, Ina3221(), Load(duty=0.5, run_s=300.0))]
    rows += [Setting(0.1, Ina3221(averages=n), Load(kernel_s=0.02, duty=0.5)) for n in (1, 512)]
    rows += [Setting(1.0, Ina3221(averages=512), Load(run_s=60.0)), Setting(0.1, Ina3221(averages=1024, is_block=True))]
    slow, slowest = Ina3221(1.1e-3, 1024), Ina3221(8.244e-3, 1024)
    rows += [Setting(0.1, slow), Setting(0.1, slow, Load(run_s=120.0)), Setting(0.1, slowest)]
    return rows


def _short_run(setting: Setting, energy: KnownEnergy, rng: np.random.Generator) -> float:
    """The mean of what a sampler at 1 Hz reads in the first 3 s, as a ratio to the truth of these 3 s."""
    at_s = np.arange(SHORT_RUN_S) + rng.uniform(0, 1)
    everything_s = np.concatenate([[-IDLE_S], at_s])
    read_mw = setting.sensor.readings_mw(energy, everything_s, rng.uniform())[1:]
    return float(read_mw.mean()) * SHORT_RUN_S / float(energy(SHORT_RUN_S) - energy(0.0))


def percentiles(values: Sequence[Optional[float]]) -> str:
    """p50, p95 and the largest of the absolute errors, in percent."""
    known = [abs(value) * 100 for value in values if value is not None]
    if not known:
        return "-"
    p50, p95 = np.percentile(known, [50, 95])
    return f"{p50:.2f} / {p95:.2f} / {max(known):.2f}"
