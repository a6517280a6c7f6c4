from __future__ import annotations

import io
from pathlib import Path

import pytest

from edge_runtime.device.telemetry.tegrastats.line import LONGEST_LINE
from edge_runtime.device.telemetry.tegrastats.log_lines import check_log, lines_from_stream, lines_of
from edge_runtime.errors import TelemetryError


def lines(data):
    return list(lines_from_stream(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\r\nb", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n\xff\n", ["a", "\ufffd"]),
        (b"a" * 10 * LONGEST_LINE + b"\nb\n", ["", "b"]),
        (b"a" * 4 * LONGEST_LINE + b"\nb\n", ["a" * 4 * LONGEST_LINE, "b"]),
        (b"a" * 100 * LONGEST_LINE, [""]),
    ],
)
def test_lines_are_bounded_and_without_their_ends(data, expected):
    assert lines(data) == expected


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xff\xfeR\0"])
def test_another_form_is_refused_with_the_command_that_mends_it(start):
    with pytest.raises(TelemetryError, match=r"log: .*edge-runtime telemetry parse -"):
        lines(start)


@pytest.mark.parametrize(("name", "reason"), [("absent", "No such file"), (".", "a folder"), ("a\0b", "null")])
def test_what_is_no_file_is_refused_by_its_name(tmp_path, name, reason):
    with pytest.raises(TelemetryError, match=reason):
        check_log(tmp_path / name)


def test_a_file_that_goes_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(TelemetryError, match=r"gone\.log"):
        list(lines_of(tmp_path / "gone.log"))
