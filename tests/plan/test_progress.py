from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.device.process import own_process
from edge_runtime.plan.progress import (
    DONE,
    FAILED,
    PROGRESS,
    RUNNING,
    BuildProgress,
    ModelProgress,
    progress_text,
    read_progress,
    write_progress,
)


def progress(*models: ModelProgress) -> BuildProgress:
    return BuildProgress(own_process(), models)


def test_what_was_written_is_read_by_other_users_too(tmp_path: Path) -> None:
    written = progress(ModelProgress("m", RUNNING, "calibrating", 3, 9), ModelProgress("n", FAILED, reason="no data"))
    before = os.umask(0o077)
    write_progress(tmp_path, written)
    os.umask(before)
    assert read_progress(tmp_path) == written
    assert (tmp_path / PROGRESS).stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (ModelProgress("m", RUNNING), "waits for its turn to be built"),
        (ModelProgress("m", RUNNING, "calibrating"), "being built: calibrating"),
        (ModelProgress("m", RUNNING, "calibrating", 3, 9), "being built: calibrating, 3 of 9"),
        (ModelProgress("m", FAILED, reason="no data"), "building it failed: no data"),
        (ModelProgress("m", DONE), "a new version was built"),
        (ModelProgress("other", DONE), ""),
    ],
)
def test_it_is_told_in_words(tmp_path: Path, found: ModelProgress, text: str) -> None:
    write_progress(tmp_path, progress(found))
    assert progress_text(tmp_path, "m") == text


def test_a_writer_that_is_gone_does_not_build(tmp_path: Path) -> None:
    running = BuildProgress(replace(own_process(), boot_id="before"), (ModelProgress("m", RUNNING, "calibrating"),))
    write_progress(tmp_path, running)
    assert progress_text(tmp_path, "m").startswith("its build was cut short (calibrating)")


WRITER = '"writer":{"pid":1,"start_ticks":1,"boot_id":"","pid_namespace":""}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 200_000,
        "\xff",
        '{"schema":2,' + WRITER + ',"models":[]}',
        '{"schema":1,' + WRITER + ',"models":[{"model":"m"}]}',
        '{"schema":1,' + WRITER + ',"models":[{"model":"m","state":"odd"}]}',
        '{"schema":1,' + WRITER + ',"models":[{"model":"m","state":"done","done":"3"}]}',
        '{"schema":1,' + WRITER + ',"models":[{"model":["m"],"state":"done"}]}',
        '{"schema":1,' + WRITER.replace(":1", ":-1") + ',"models":[]}',
        '{"schema":1,"models":[]}',
    ],
)
def test_what_is_no_progress_says_nothing(tmp_path: Path, text: str) -> None:
    assert progress_text(tmp_path, "m") == ""
    (tmp_path / PROGRESS).write_bytes(text.encode("latin-1"))
    assert read_progress(tmp_path) is None
    assert progress_text(tmp_path, "m") == ""
