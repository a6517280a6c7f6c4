"""What the log says of a board."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from edge_runtime.device.telemetry.source import Origin
from edge_runtime.device.telemetry.throttling import Throttle
from edge_runtime.server.board_log import BoardLog

HOT = Throttle("thermal", "gpu", "gpu-throttle-alert is 1")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    """A log, its clock in seconds as `log.now_s`, and its lines as (level, text) by `log.lines()`."""
    caplog.set_level(logging.INFO)

    class Timed(BoardLog):
        now_s = 0

        def lines(self) -> list[tuple[str, str]]:
            found = [(record.levelname, record.getMessage()) for record in caplog.records]
            caplog.clear()
            return found

    timed = Timed(Origin("sysfs"), lambda: timed.now_s * 1_000_000_000)
    return timed


def test_a_throttle_is_said_to_begin_and_to_end_once(log: Any) -> None:
    for active in ((), (HOT,), (HOT,), (), ()):
        log.throttled(active)
    assert log.lines() == [
        ("WARNING", "the board is throttled: thermal (gpu): gpu-throttle-alert is 1"),
        ("WARNING", "the board is no longer throttled: thermal (gpu)"),
    ]


def test_what_comes_and_goes_is_said_once_a_minute_with_how_often_it_was(log: Any) -> None:
    for second in range(60):
        log.now_s = second
        log.throttled((HOT,) if second % 2 else ())
    assert len(log.lines()) == 2
    log.throttled(())
    log.now_s = 100
    log.throttled((HOT,))
    (line,) = log.lines()
    assert line[1].endswith("gpu-throttle-alert is 1 (it was 29 times more since that was said last)")


def test_each_cause_and_place_is_said_by_itself(log: Any) -> None:
    log.throttled((HOT, Throttle("over-current", "oc3", "2 events")))
    log.throttled((Throttle("over-current", "oc3", "3 events"),))
    assert [text for _, text in log.lines()] == [
        "the board is throttled: over-current (oc3): 2 events",
        "the board is throttled: thermal (gpu): gpu-throttle-alert is 1",
        "the board is no longer throttled: thermal (gpu)",
    ]


def test_a_throttle_that_comes_back_to_stay_is_said_after_a_minute(log: Any) -> None:
    for log.now_s, active in ((0, (HOT,)), (1, ()), (2, (HOT,)), (59, (HOT,))):
        log.throttled(active)
    assert log.lines()[-1][1] == "the board is no longer throttled: thermal (gpu)"
    log.now_s = 60
    log.throttled((HOT,))
    log.throttled((HOT,))
    assert log.lines() == [("WARNING", "the board is throttled: thermal (gpu): gpu-throttle-alert is 1")]


def test_silence_is_a_warning_and_its_end_is_news(log: Any) -> None:
    for _ in range(3):
        log.silent("nothing for 2 s")
    log.heard()
    log.heard()
    assert log.lines() == [
        ("WARNING", "the board: no fresh sample: nothing for 2 s"),
        ("INFO", "the board: samples come again"),
    ]


def test_a_second_silence_in_a_minute_is_said_and_those_behind_it_only_end_once_samples_are_steady(log: Any) -> None:
    for second in range(0, 20, 2):
        log.now_s = second
        log.silent(f"at {second} s")
        log.now_s += 1
        log.heard()
    assert [text for _, text in log.lines()] == [
        "the board: no fresh sample: at 0 s",
        "the board: samples come again",
        "the board: no fresh sample: at 2 s",
    ]
    for log.now_s in (77, 78, 79):
        log.heard()
    assert log.lines() == [("INFO", "the board: samples come again")]


def test_what_is_replayed_is_said_to_be_so(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    BoardLog(Origin("replay", "ramp.jsonl", "all of it"), lambda: 0).throttled((HOT,))
    assert caplog.messages == ["the replayed board (ramp.jsonl) is throttled: thermal (gpu): gpu-throttle-alert is 1"]
