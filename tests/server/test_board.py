"""A server's board: what it makes of samples, and what becomes of it when they stop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fakes.board_readings import LINE, ramp, watcher_of

from edge_runtime.device.telemetry.board import OpenBoard, open_board
from edge_runtime.device.telemetry.sample import TelemetrySample
from edge_runtime.device.telemetry.source import Origin
from edge_runtime.errors import TelemetryError
from edge_runtime.server.board import NO_BOARD, ServedBoard
from edge_runtime.server.conditions import Conditions

WARM = TelemetrySample(temps_c={"tj": 60.0})


class FakeSource:
    """A paced source that gives what it was made with, then fails, or is silent until it is closed."""

    is_paced = True

    def __init__(self, *samples: TelemetrySample, error: TelemetryError | None = None) -> None:
        self.origin = Origin("tegrastats", module="Orin Nano 8GB")
        self.left = list(samples)
        self.error = error
        self.closed = threading.Event()
        self.is_asked_again = threading.Event()

    def read(self, timeout_s: float) -> TelemetrySample | None:
        if self.left:
            return self.left.pop(0)
        self.is_asked_again.set()
        if self.error is not None:
            raise self.error
        self.closed.wait(timeout_s)
        return None

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def board_of() -> Any:
    """`board, source = board_of(sample, ..., error=None)`: once all samples were seen."""
    made = []

    def make(*samples: TelemetrySample, interval_s: float = 600, **options: Any) -> Any:
        source = FakeSource(*samples, **options)
        made.append(ServedBoard())
        made[-1].begin(OpenBoard(source, (("tegrastats", "in use"),), interval_s))
        assert source.is_asked_again.wait(10)
        return made[-1], source

    yield make
    for board in made:
        board.close()


def test_what_was_seen_last_is_told(board_of: Any) -> None:
    board, source = board_of(TelemetrySample(temps_c={"tj": 50.0}), WARM)
    reading = board.read()
    assert (reading.alarm, reading.status.samples, reading.verdicts) == (None, 2, (("tegrastats", "in use"),))
    assert reading.fresh.stamped.sample is WARM
    assert board.conditions() == Conditions(None, 60.0)
    board.close()
    assert source.closed.is_set()


def test_a_source_that_died_leaves_nothing_that_is_so_now(board_of: Any) -> None:
    board, _ = board_of(WARM, interval_s=0.001, error=TelemetryError("tegrastats ended with status 1"))
    while not board.read().status.is_stale:
        pass
    reading = board.read()
    assert reading.alarm is not None
    assert reading.fresh is None
    assert reading.seen.stamped.sample is WARM
    assert board.conditions() == Conditions(None, None)


def test_no_board_tells_nothing_and_may_be_closed() -> None:
    none = ServedBoard()
    none.open("none", 1.0)
    for board in (NO_BOARD, none):
        assert board.read().status is None
        assert board.conditions() == Conditions(None, None)
        board.close()


def test_a_source_that_was_asked_for_by_name_and_is_not_there_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    board = ServedBoard()
    board.begin(OpenBoard(None, (), 1.0, failure="tegrastats: not found"))
    assert board.read().alarm == "tegrastats: not found"
    assert caplog.messages == ["there is no telemetry of the board: tegrastats: not found"]


def test_what_can_not_be_opened_is_said_and_raises_nothing(tmp_path: Path) -> None:
    board = ServedBoard()
    board.open(f"replay:{tmp_path / 'none'}", 1.0)
    assert "can't be read (No such file" in str(board.read().alarm)


def test_a_fault_of_ours_in_opening_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.device.telemetry.board.open_board", {}.__getitem__)
    board = ServedBoard()
    board.open("auto", 1.0)
    assert str(board.read().alarm).startswith("TypeError")


def test_a_source_that_hangs_while_it_is_opened_is_an_alarm_and_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_there, now_ns, source = threading.Event(), [0], FakeSource(WARM)

    def hang(*_: object) -> OpenBoard:
        assert is_there.wait(30)
        return OpenBoard(source, (), 1.0)

    monkeypatch.setattr("edge_runtime.device.telemetry.board.open_board", hang)
    monkeypatch.setattr("edge_runtime.server.board._JOIN_S", 0.0)
    board = ServedBoard(lambda: now_ns[0])
    board.start("nvml", 1.0)
    assert board.read().alarm is None
    now_ns[0] = 11_000_000_000
    assert board.read().alarm == "the source isn't open after 11 s"
    board.close()
    assert caplog.messages == ["the board's source hangs and is left behind"]
    is_there.set()
    assert source.closed.wait(10)
    assert source.left == [WARM]


def test_a_source_that_hangs_in_a_reading_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_read, may_go_on = threading.Event(), threading.Event()

    class Hanging(FakeSource):
        def read(self, timeout_s: float) -> TelemetrySample | None:
            is_read.set()
            assert may_go_on.wait(30)
            return None

    monkeypatch.setattr("edge_runtime.server.board._JOIN_S", 0.0)
    board = ServedBoard()
    board.begin(OpenBoard(Hanging(), (), 1.0))
    assert is_read.wait(10)
    board.close()
    assert caplog.messages == ["the board's source hangs and is left behind"]
    may_go_on.set()


def test_the_power_mode_is_that_of_the_tree(tmp_path: Path) -> None:
    for path, text in {
        "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=15W >\n",
        "var/lib/nvpmodel/status": "pmode:0002\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert watcher_of([WARM], root=tmp_path).seen.power_mode == "15W"
    assert watcher_of([WARM], root=None).seen.power_mode is None


def test_lines_go_back_two_minutes_and_have_a_point_a_second() -> None:
    samples = ramp().samples
    points = watcher_of([*samples, *samples]).seen.points
    assert len(points) == 120
    assert [point.power_mw for point in points] == [sample.total_power.cur_mw for sample in samples]
    assert 10 < sum(point.is_throttled for point in points) < 60


def test_a_throttle_between_two_points_is_in_the_later_one() -> None:
    hot = TelemetrySample(cooling={"gpu-throttle-alert": 1})
    points = watcher_of([WARM, WARM, hot, *[WARM] * 20], interval_s=0.1).seen.points
    assert [point.is_throttled for point in points] == [False, True, False]


def test_a_log_is_replayed_at_its_own_pace_and_has_no_power_mode() -> None:
    opened = open_board(f"replay@10:{LINE}", 0.1)
    assert (opened.interval_s, opened.root, opened.verdicts) == (0.1, None, (("replay", "in use"),))
    opened.source.close()
