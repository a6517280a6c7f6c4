"""The probe on a made-up clock: each call takes 9.731 ms, out of step with sampling, at a made-up power."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample, TotalPower
from edge_runtime.profiler.energy_probe import EnergyProbe

CALL_NS, INTERVAL_NS = 9_731_000, 100_000_000


class Machine:
    """A clock that calls move on, and a board that is sampled on it."""

    interval_s = INTERVAL_NS / 1e9

    def __init__(self, power_mw: float | None) -> None:
        self.now_ns = 5_000_000_000
        self.power_mw = power_mw

    def clock(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def call(self) -> None:
        self.now_ns += CALL_NS

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def between(self, start_ns: int, end_ns: int) -> list[Stamped]:
        noise = np.random.default_rng(3)
        return [Stamped(at_ns, self._sample(noise)) for at_ns in range(start_ns, end_ns, INTERVAL_NS)]

    def _sample(self, noise: np.random.Generator) -> TelemetrySample:
        if self.power_mw is None:
            return TelemetrySample()
        return TelemetrySample(total_power=TotalPower(self.power_mw + noise.normal(0, 50), ("VDD_IN",), "input-rail"))


def test_a_call_is_made_for_long_enough_to_know_its_energy() -> None:
    machine = Machine(8000.0)
    energy_mj, why = EnergyProbe(machine, clock=machine.clock, wait=machine.wait)(machine.call)
    assert why == ""
    assert energy_mj == pytest.approx(8.0 * 9.731, rel=0.01)


def test_why_there_is_no_energy_is_said() -> None:
    machine = Machine(None)
    energy_mj, why = EnergyProbe(machine, clock=machine.clock, wait=machine.wait)(machine.call)
    assert energy_mj is None
    assert "no sample has a total power" in why
