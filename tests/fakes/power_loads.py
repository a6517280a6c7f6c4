"""Made-up loads whose energy is known exactly, and the samples that a sensor gives of them.

Levels are those of an Orin Nano (jetson.md, section 13: idle 4.29 W, ResNet18 15.6 W); how power wanders and how runs
vary is made up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample, TotalPower

IDLE_MW, BETWEEN_MW, KERNEL_MW = 4290.0, 6000.0, 15600.0
IDLE_S = 35.0
_GRID_S = 0.05


@dataclass(frozen=True)
class Load:
    """Calls back to back from 0 on, after an idle time: what each takes of `period_s` is its kernel's."""

    kernel_s: float = 1e-3
    duty: float = 0.9
    run_s: float = 30.0
    jitter: float = 0.05

    def calls_s(self, rng):
        count = int(self.run_s / self.kernel_s * self.duty) + 1
        kernels = self.kernel_s * rng.lognormal(0, self.jitter, count)
        pauses = self.kernel_s * (1 / self.duty - 1) * rng.lognormal(0, self.jitter, count)
        starts = np.concatenate([[0.0], np.cumsum(kernels + pauses)[:-1]]) + rng.uniform(0, self.kernel_s)
        return starts, starts + kernels


class KnownEnergy:
    """The energy that a load has drawn by any moment, in mJ: its kernels, and a slow wander on top."""

    def __init__(self, load, rng):
        self.starts_s, self.ends_s = load.calls_s(rng)
        edges = np.column_stack([self.starts_s, self.ends_s]).reshape(-1)
        levels = np.tile([KERNEL_MW, BETWEEN_MW], len(self.starts_s))[:-1]
        self._edges_s = np.concatenate([[-1e4], edges, [1e4]])
        levels = np.concatenate([[IDLE_MW], levels, [IDLE_MW]])
        self._energy_mj = np.concatenate([[0.0], np.cumsum(levels * np.diff(self._edges_s))])
        self._grid_s = np.arange(-IDLE_S - 5, load.run_s + 5, _GRID_S)
        size = np.where(self._grid_s < 0, 20.0, 120.0) * rng.normal(size=len(self._grid_s))
        self._wander_mj = np.concatenate([[0.0], np.cumsum(np.convolve(size, np.ones(20) / 20**0.5, "same"))[:-1]])
        self._wander_mj *= _GRID_S

    def __call__(self, at_s):
        return np.interp(at_s, self._edges_s, self._energy_mj) + np.interp(at_s, self._grid_s, self._wander_mj)

    @property
    def calls_ns(self):
        return np.column_stack([self.starts_s, self.ends_s]) * 1e9

    @property
    def gross_mj(self):
        return (self(self.ends_s[-1]) - self(self.starts_s[0])) / len(self.starts_s)

    @property
    def net_mj(self):
        return self.gross_mj - IDLE_MW * (self.ends_s[-1] - self.starts_s[0]) / len(self.starts_s)


def stamped_power(at_s, power_mw, how="input-rail", rails=("VDD_IN",)):
    """Samples that hold a total and nothing else; NaN is a sample without one."""
    return [
        Stamped(
            round(t * 1e9),
            TelemetrySample(total_power=None if np.isnan(p) else TotalPower(float(p), rails, how)),
        )
        for t, p in zip(at_s.tolist(), power_mw.tolist())
    ]


def sampled(energy, sensor, interval_s, end_s, rng):
    """Samples from the idle time to `end_s`: ticks with jitter, 1 in 200 lost, and once nothing for half a second."""
    at_s = np.arange(-IDLE_S, end_s, interval_s) + rng.uniform(0, interval_s)
    at_s = at_s + rng.exponential(0.01 * interval_s, len(at_s))
    silent_s = rng.uniform(2, end_s - 2)
    kept = (rng.uniform(size=len(at_s)) > 0.005) & ~((at_s > silent_s) & (at_s < silent_s + 0.5))
    return stamped_power(at_s[kept], sensor.readings_mw(energy, at_s, rng.uniform())[kept])
