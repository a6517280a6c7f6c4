"""What is done while nobody asks, over a made-up board whose clocks are held, by a clock of the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from fakes.held_clocks import held_board

from edge_runtime.device.held_clocks import HeldClock, held_clocks
from edge_runtime.errors import ConfigError
from edge_runtime.server.idle import Idle
from edge_runtime.server.models import ModelTable
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.statistics import ModelStatistics
from edge_runtime.server.under_way import UnderWay


class Model:
    """As much of a served model as idling looks at."""

    def __init__(self) -> None:
        self.name = "m"
        self.statistics = ModelStatistics()
        self.under_way = UnderWay()


class World:
    def __init__(self, root: Path, **settings: Any) -> None:
        self.now_s = 0.0
        self.root = held_board(root)
        self.model = Model()
        self.models = ModelTable([self.model])  # type: ignore[list-item]
        self.models.is_ready = True
        chosen = ServerSettings(**{"idle": "release", "idle_after_s": 10, **settings})
        self.idle = Idle(self.models, chosen, root, lambda: self.now_s)

    def look(self, until_s: float) -> None:
        while self.now_s < until_s:
            self.now_s += 1
            self.idle.look()

    def ask(self) -> None:
        self.models.check_admission(self.model)  # type: ignore[arg-type]
        self.model.statistics.add_failure("OTHER", 0)

    @property
    def lowest_khz(self) -> str:
        """What the first CPU's file says once all that was begun is done."""
        self.idle._thread.submit(int).result(10)
        return (self.root / "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq").read_text().strip()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**settings: Any) -> World:
        made.append(World(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.idle.close()


def test_with_permission_held_clocks_are_released_after_a_while_and_held_again_at_the_first_request(
    world: Any, logged: Any
) -> None:
    made = world(allow_power_changes=True)
    made.look(10)
    assert (made.idle.is_idle, made.lowest_khz) == (False, "1510400")
    made.look(12)
    assert (made.idle.is_idle, made.lowest_khz) == (True, "115200")
    made.ask()
    assert (made.idle.is_idle, made.lowest_khz) == (False, "1510400")
    assert logged()[0].startswith("idle: clocks may fall: CPU policy0 from 1510400 to 115200, CPU policy4")
    assert logged()[1].startswith("no longer idle: clocks are held again: CPU policy0, CPU policy4, GPU 17000000.gpu")


def test_without_permission_nothing_is_changed_and_the_commands_are_said_once(world: Any, logged: Any) -> None:
    made = world()
    for _ in range(3):
        made.look(made.now_s + 12)
        assert (made.idle.is_idle, made.lowest_khz) == (True, "1510400")
        made.ask()
    (line,) = logged()
    clock = held_clocks(made.root)[0]
    assert "it isn't permitted (--allow-power-changes); by hand: " in line
    assert f"echo 115200 | sudo tee {clock.path}; " in line


def test_requests_and_such_as_are_under_way_put_it_off(world: Any) -> None:
    made = world(allow_power_changes=True)
    for _ in range(6):
        made.look(made.now_s + 8)
        made.ask()
    made.look(made.now_s + 2)
    made.model.under_way.begun()
    made.look(made.now_s + 60)
    assert not made.idle.is_idle
    made.model.under_way.ended()
    made.look(made.now_s + 12)
    assert made.idle.is_idle


def test_the_end_of_a_server_holds_clocks_again(world: Any) -> None:
    made = world(allow_power_changes=True)
    made.look(12)
    assert made.lowest_khz == "115200"
    made.idle.close()
    assert held_clocks(made.root)[0].held == 1510400


def test_where_a_clock_cannot_be_written_commands_are_said_and_the_others_are_held_again(
    world: Any, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HeldClock.release

    def release(clock: HeldClock) -> None:
        if clock.name == "CPU policy4":
            raise ConfigError("CPU policy4: can't be written (Read-only file system)")
        real(clock)

    monkeypatch.setattr(HeldClock, "release", release)
    made = world(allow_power_changes=True)
    made.look(12)
    assert made.lowest_khz == "115200"
    made.ask()
    assert made.lowest_khz == "1510400"
    proposed, released, held = logged()
    assert "but CPU policy4: can't be written (Read-only file system); by hand: echo 115200 | sudo tee" in proposed
    assert (released, held) == (
        "idle: clocks may fall: CPU policy0 from 1510400 to 115200",
        "no longer idle: clocks are held again: CPU policy0",
    )


def test_off_it_does_nothing_and_while_idle_others_look_less_often(world: Any) -> None:
    off = world(idle="off", allow_power_changes=True)
    off.look(600)
    assert (off.idle.is_idle, off.lowest_khz, off.idle.relaxed(0.5)) == (False, "1510400", 0.5)
    on = world()
    on.look(12)
    assert on.idle.relaxed(0.5) == 2.0
