"""On a made-up clock that the calls and the yardstick's readings move."""

from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.device.run_delay import RunDelay
from edge_runtime.profiler import repeats
from edge_runtime.profiler.closed_loop import LoopLimits
from edge_runtime.profiler.repeats import watched_repeat


class Machine:
    """A made-up machine: a call takes 1.5 ms, a reading 50 us, the third one 80; `delay` is the wait for a core."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.readings = 0
        self.delay = 0

    def clock(self) -> int:
        return self.now_ns

    def call(self) -> None:
        self.now_ns += 1_500_000

    def read(self, _: Any) -> int:
        self.readings += 1
        return 80_000 if self.readings == 3 else 50_000

    def read_ns(self) -> int:
        return self.delay


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(repeats.Yardstick, "read", lambda _, clock: machine.read(clock))
    monkeypatch.setattr(RunDelay, "read_ns", lambda _: machine.read_ns())
    return machine


def test_calls_carry_the_slower_of_the_readings_around_them(machine: Machine) -> None:
    found = watched_repeat(machine.call, LoopLimits(6), None, machine.clock)
    assert found.durations_ns == (1_500_000,) * 6
    assert found.yardstick_ns == (80_000, 80_000, 80_000, 80_000, 50_000, 50_000)
    assert found.elapsed_ns == 9_000_000


def test_calls_that_had_to_wait_for_a_core_have_no_pace(machine: Machine) -> None:
    def call() -> None:
        machine.call()
        machine.delay += 200_000

    assert set(watched_repeat(call, LoopLimits(4), None, machine.clock).yardstick_ns) == {0}


def test_a_duration_ends_the_repeat(machine: Machine) -> None:
    found = watched_repeat(machine.call, LoopLimits(100, 1, 0.005), None, machine.clock)
    assert len(found.durations_ns) == 4


def test_of_several_callers_the_readings_are_at_the_ends(machine: Machine) -> None:
    found = watched_repeat(lambda: None, LoopLimits(8, 2), None, machine.clock)
    assert (len(found.durations_ns), len(found.yardstick_ns)) == (8, 40)
