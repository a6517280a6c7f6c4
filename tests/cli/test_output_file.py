from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_runtime.cli.main import main
from edge_runtime.cli.output_file import check_output_file
from edge_runtime.errors import UsageError
from edge_runtime.plan.files import write_atomically


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one of each thing that isn't a file."""
    os.mkfifo(tmp_path / "fifo.cache")
    (tmp_path / "link.cache").symlink_to("elsewhere.cache")
    (tmp_path / "folder.cache").mkdir()
    (tmp_path / "file.cache").write_text("old")
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRONG = {
    "": "isn't a regular file",
    ".": "isn't a regular file",
    "..": "isn't a regular file",
    "folder.cache": "isn't a regular file",
    "fifo.cache": "isn't a regular file",
    "link.cache": "isn't a regular file",
    "absent/o.cache": "absent isn't a folder that exists",
    "file.cache/o.cache": "file.cache isn't a folder that exists",
    "/proc/o.cache": "/proc can't be written",
    "x" * 300 + ".cache": "File name too long",
    "nul\0.cache": "null",
}


@pytest.mark.parametrize(("name", "problem"), WRONG.items())
def test_a_name_that_no_result_can_have_is_refused(folder: Path, name: str, problem: str) -> None:
    with pytest.raises(UsageError, match=rf"--output [\s\S]*: .*{problem}.*; give another name"):
        check_output_file(Path(name), "--output")


@pytest.mark.parametrize("name", ["new.cache", "file.cache", "folder.cache/o.cache", "ü" * 120 + ".cache"])
def test_a_file_new_or_old_is_taken_and_nothing_is_left_of_the_check(folder: Path, name: str) -> None:
    before = sorted(folder.rglob("*"))
    check_output_file(Path(name), "--output")
    assert sorted(folder.rglob("*")) == before
    write_atomically(Path(name), b"new")
    assert Path(name).read_bytes() == b"new"


VERBS = {
    "doctor": (["doctor", "--selftest"], "--output"),
    "infer": (["infer", "absent", "--input", "absent.npz"], "--output"),
    "bench": (["bench", "absent", "--layers"], "--trace"),
    "calibrate": (["calibrate", "absent.onnx"], "--output"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["fifo.cache", "link.cache", "folder.cache", "absent/o.cache"])
def test_every_verb_refuses_it_before_any_work(
    folder: Path, verb: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words, flag = VERBS[verb]
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit) as ending:
        main([*words, flag, name])
    assert ending.value.code == 2
    assert f"{flag} {name}: " in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
