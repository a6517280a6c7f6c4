"""A power sensor as the INA3221's data sheet describes it, over a made-up load.

From the data sheet (TI SBOS576, "Averaging function" and configuration register): three channels take turns, each with
a shunt and a bus conversion of 140 us to 8.244 ms; an average of N is exponential, each new conversion moves the
register by 1/N of its difference from it; steps are 40 uV and 8 mV. `is_block` is another kind of sensor: the register
holds the mean of N conversions until the next N are done. Made up: 5 mOhm shunts, 4.93 V, one channel for all power.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANNELS = 3
SHUNT_OHM, BUS_V = 0.005, 4.93
SHUNT_STEP_V, BUS_STEP_V = 40e-6, 8e-3


@dataclass(frozen=True)
class Ina3221:
    """Settings of the chip; `cycle_s` is the time between two conversions of one input."""

    conversion_s: float = 140e-6
    averages: int = 1
    is_block: bool = False

    @property
    def cycle_s(self) -> float:
        return self.conversion_s * 2 * CHANNELS

    @property
    def lag_s(self) -> float:
        """The time constant of the average; of a block its length."""
        return self.cycle_s * self.averages

    def readings_mw(self, energy_mj, at_s, phase):
        """What is read at `at_s`, of a load that has drawn `energy_mj(t)` by t; `phase` of a cycle is random."""
        start_s = at_s[0] - 12 * self.lag_s - (1 + phase) * self.cycle_s
        count = int((at_s[-1] - start_s) / self.cycle_s) + 1
        begins_s = start_s + np.arange(count) * self.cycle_s
        power_mw = (energy_mj(begins_s + self.conversion_s) - energy_mj(begins_s)) / self.conversion_s
        done_s = begins_s + self.conversion_s
        if self.is_block:
            whole = count // self.averages
            register = power_mw[: whole * self.averages].reshape(whole, self.averages).mean(axis=1)
            done_s = done_s[self.averages - 1 :: self.averages][:whole]
        else:
            register = _exponential(power_mw, self.averages)
        amperes = register[np.searchsorted(done_s, at_s, "right") - 1] / 1e3 / BUS_V
        shunt_v = np.round(amperes * SHUNT_OHM / SHUNT_STEP_V) * SHUNT_STEP_V
        bus_mv = round(BUS_V / BUS_STEP_V) * BUS_STEP_V * 1e3
        return np.floor(shunt_v / SHUNT_OHM * bus_mv)


def _exponential(values, averages, chunk=64):
    """y[k] = y[k-1] + (x[k] - y[k-1]) / N, started at the first value."""
    keep = 1 - 1 / averages
    if keep == 0:
        return values
    padded = np.concatenate([values, np.full(-len(values) % chunk, values[-1])]).reshape(-1, chunk)
    lags = np.arange(chunk)[:, None] - np.arange(chunk)[None, :]
    inside = padded @ (np.where(lags >= 0, keep ** np.maximum(lags, 0), 0.0) / averages).T
    carried, carry = np.empty(len(padded)), values[0]
    for row, last in enumerate(inside[:, -1]):
        carried[row] = carry
        carry = last + keep**chunk * carry
    return (inside + carried[:, None] * keep ** np.arange(1, chunk + 1)).reshape(-1)[: len(values)]
