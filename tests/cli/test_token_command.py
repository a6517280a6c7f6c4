"""`edge-runtime token`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_runtime.cli.main import main
from edge_runtime.server.access import Access


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["token", *words])
    return int(ended.value.code or 0)


def test_tokens_are_added_to_a_file_that_a_server_takes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, before = tmp_path / "tokens", os.umask(0o002)
    try:
        assert run("robot", "--file", str(file)) == run("ops", "--admin", "--file", str(file), "--json") == 0
    finally:
        os.umask(before)
    plain, document = capsys.readouterr().out.splitlines()
    tokens = Access(file).tokens
    assert tokens is not None
    found = [tokens.find(f"Bearer {text}".encode()) for text in (plain, json.loads(document)["token"])]
    assert [(token.name, token.is_admin) for token in found if token] == [("robot", False), ("ops", True)]
    assert plain not in file.read_text()


@pytest.mark.parametrize("text", [None, "nonsense\n"])
def test_a_name_that_is_taken_and_a_file_of_something_else_leave_it_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str | None
) -> None:
    file = tmp_path / "tokens"
    if text is None:
        run("robot", "--file", str(file))
        text = file.read_text()
    file.write_text(text)
    assert run("robot", "--file", str(file)) == 78
    assert file.read_text() == text
    assert "line" in capsys.readouterr().err


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    assert run("a b", "--file", str(tmp_path / "tokens")) == 78
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_file_stays_whose_it_was(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    run("robot", "--file", str(file))
    os.chown(file, 1234, 1235)
    file.chmod(0o640)
    run("ops", "--file", str(file))
    found = file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 1235, 0o640)
