from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import pytest

from edge_runtime.cli.journal import JournalLines, is_journal, with_priority


@pytest.mark.parametrize(
    ("level", "priority"),
    [("CRITICAL", 2), ("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)],
)
def test_every_line_begins_with_its_priority(level: str, priority: int) -> None:
    assert with_priority("a\n| b", getattr(logging, level)) == f"<{priority}>a\n<{priority}>| b"


def test_a_formatters_lines_and_those_of_its_traceback_have_one() -> None:
    try:
        raise ValueError("x")
    except ValueError as error:
        exception = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("a", logging.WARNING, "f.py", 1, "text", None, exception)
    lines = JournalLines(logging.Formatter()).format(record).split("\n")
    assert len(lines) > 3
    assert all(line.startswith("<4>") for line in lines)


def test_the_stream_that_systemd_names_is_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert [is_journal(each, environ) for each in (stream, other, io.StringIO())] == [True, False, False]
        assert not is_journal(stream, {})
