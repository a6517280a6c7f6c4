from __future__ import annotations

import io
import json
import logging
from datetime import datetime, timezone
from typing import Any, Iterator

import pytest

from edge_runtime.cli.service_log import MAX_LINE_NBYTES, ServiceLog, passing
from edge_runtime.errors import InvalidRequestError

HOSTILE = "a\nERROR root: forged\r\x1b[31mred\x00\x85\u2028\u202e\ud800" + "x" * (1 << 20)
logger = logging.getLogger("edge_runtime.test")


@pytest.fixture
def stderr() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    for handler in before:
        root.removeHandler(handler)  # or they would be closed
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)


def lines(written: io.StringIO) -> list[str]:
    assert written.getvalue().endswith("\n")
    return written.getvalue()[:-1].split("\n")


def log_all() -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "%s", logging.getLevelName(level))


def fail(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("it failed")


@pytest.mark.parametrize(
    ("level", "passing"),
    [("DEBUG", 5), ("INFO", 4), ("WARNING", 3), ("ERROR", 2)],
)
def test_what_is_at_least_as_grave_as_the_level_passes(stderr, level, passing):
    ServiceLog(level, stream=stderr)
    log_all()
    assert len(lines(stderr)) == passing


@pytest.mark.parametrize(
    ("changes", "passing"),
    [
        ({"log_info": True}, ["INFO", "WARNING", "ERROR", "CRITICAL"]),
        ({"log_verbose_level": 1}, ["DEBUG", "WARNING", "ERROR", "CRITICAL"]),
        ({"log_warning": False}, ["ERROR", "CRITICAL"]),
        ({"log_error": False}, ["WARNING"]),
        ({"log_info": True, "log_warning": False, "log_error": False}, ["INFO"]),
    ],
)
def test_each_setting_lets_its_level_pass_or_not(stderr, changes, passing):
    log = ServiceLog("WARNING", stream=stderr)
    log.change(changes)
    assert log.settings() == {
        "log_file": "",
        "log_info": False,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
        **changes,
    }
    stderr.truncate(0)
    stderr.seek(0)
    log_all()
    assert [line.rpartition(" ")[2] for line in lines(stderr)] == passing


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_file", "/etc/passwd"),
        ("log_file", ""),
        ("log_info", 1),
        ("log_info", None),
        ("log_verbose_level", True),
        ("log_verbose_level", -1),
        ("log_verbose_level", 2**32),
        ("log_verbose_level", "1"),
        ("log_format", "iso"),
        ("log_format", ["default"]),
        ("log_" + "x" * 1000, 1),
    ],
)
def test_what_cant_be_set_is_refused_by_name_and_nothing_is_changed(stderr, name, value):
    log = ServiceLog("WARNING", stream=stderr)
    with pytest.raises(InvalidRequestError, match=name[:100]) as caught:
        log.change({"log_info": True, name: value})
    assert len(str(caught.value)) < 400
    assert log.settings()["log_info"] is False


@pytest.mark.parametrize("is_json", [False, True])
def test_text_of_clients_makes_one_line_of_at_most_4_kib(stderr, is_json):
    ServiceLog("WARNING", is_json, stderr)
    logger.warning("unknown model %s", HOSTILE)
    (line,) = lines(stderr)
    assert len(line.encode()) < MAX_LINE_NBYTES
    assert line.isprintable()
    shown = json.loads(line)["message"] if is_json else line
    assert r"a\nERROR root: forged\r\x1b[31mred\x00\x85\u2028\u202e\ud800xxx" in shown
    assert shown.endswith("...")


def test_no_text_in_a_traceback_begins_a_line(stderr):
    ServiceLog("WARNING", stream=stderr)
    fail(HOSTILE[:200])
    first, *others = lines(stderr)
    assert first == "ERROR edge_runtime.test: it failed"
    assert all(line.startswith("| ") and line.isprintable() for line in others)
    assert "| ERROR root: forged\\r\\x1b[31mred" in "\n".join(others)
    assert "Traceback" in others[0]


def test_a_traceback_in_json_stays_in_its_line_of_at_most_4_kib(stderr):
    ServiceLog("WARNING", is_json=True, stream=stderr)
    fail(HOSTILE[:200])
    fail(HOSTILE[:200] + "\u00e9" * 5000)
    short, long = lines(stderr)
    assert len(long) < MAX_LINE_NBYTES
    assert "Traceback" in json.loads(short)["exception"]
    assert json.loads(long)["exception"].endswith("\u00e9")


def test_a_line_of_json_says_when_how_grave_and_who(stderr):
    ServiceLog("INFO", is_json=True, stream=stderr)
    logger.info("%d models", 2)
    (line,) = lines(stderr)
    found: dict[str, Any] = json.loads(line)
    when = datetime.strptime(found.pop("time"), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs((datetime.now(timezone.utc) - when).total_seconds()) < 60
    assert found == {"level": "INFO", "logger": "edge_runtime.test", "message": "2 models"}


def test_lines_of_text_begin_with_the_time_once_that_is_asked_for(stderr):
    log = ServiceLog("WARNING", stream=stderr)
    log.change({"log_format": "ISO8601"})
    logger.warning("hot")
    (line,) = lines(stderr)
    when, _, rest = line.partition(" ")
    assert datetime.strptime(when, "%Y-%m-%dT%H:%M:%S.%fZ")
    assert rest == "WARNING edge_runtime.test: hot"


@pytest.mark.parametrize("is_json", [False, True])
def test_every_line_for_the_journal_has_the_priority_of_its_record(stderr, is_json):
    ServiceLog("INFO", is_json, stderr, has_priorities=True)
    logger.info("%s", HOSTILE)
    fail("a\nb")
    written = lines(stderr)
    assert written[0][:3] == "<6>"
    assert {line[:3] for line in written[1:]} == {"<3>"}


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_a_level_can_be_changed_to(stderr, level):
    log = ServiceLog("ERROR", stream=stderr)
    log.change(passing(level))
    assert log.settings() == ServiceLog(level, stream=stderr).settings()
