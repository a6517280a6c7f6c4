from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from edge_runtime.device.files import bytes_of, names_in, printable, text_of, whole_number


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, loop, lambda path: None])
def test_what_is_no_plain_file_reads_as_nothing_and_holds_nobody_up(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x")
    assert bytes_of(tmp_path / "x") == b""
    assert names_in(tmp_path / "x") == []


def test_a_file_that_may_not_be_read_reads_as_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("secret")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert text_of(tmp_path / "x") == ""


def test_a_read_that_fails_reads_as_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("41000")

    def fail(*_: object) -> bytes:
        raise BlockingIOError(11, "the sensor's domain is off")

    monkeypatch.setattr(os, "read", fail)
    assert text_of(tmp_path / "x") == ""


def test_a_path_that_no_file_can_have_reads_as_nothing(tmp_path: Path) -> None:
    assert text_of(tmp_path / "a\0b") == ""
    assert text_of(tmp_path / ("x" * 5000)) == ""


def test_only_the_beginning_of_a_huge_file_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    assert len(bytes_of(tmp_path / "x", 3_000_000)) == 3_000_000


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("x", "absent", "."):
        text_of(tmp_path / name)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_names_are_sorted(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("42", 42), (" 0\n", 0), ("-1", None), ("4 2", None), ("\u0664", None), ("9" * 5000, None), ("", None)],
)
def test_a_whole_number_is_digits_and_not_too_many(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_control_characters_become_blanks() -> None:
    assert printable("a\0b\x1b[31m\n") == "a b [31m"
