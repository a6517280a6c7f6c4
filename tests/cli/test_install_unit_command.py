"""`edge-runtime install-unit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cli.main import main

PROGRAM = ("--program", "/opt/edge-runtime/bin/edge-runtime")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["install-unit", *words])
    return int(ended.value.code or 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text("Package: systemd\nVersion: 255.4-1ubuntu8\n\n")
    return tmp_path


def test_it_says_what_it_wrote_and_what_comes_next(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--root", str(root), *PROGRAM) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "new       /etc/systemd/system/edge-runtime.service" in lines
    assert lines[-1] == "run: systemctl enable --now edge-runtime.service edge-runtime-rebuild.path"
    assert (root / "etc/systemd/system/edge-runtime.service").is_file()


def test_a_dry_run_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--root", str(root), *PROGRAM, "--dry-run", "--json") == 0
    document: Any = json.loads(capsys.readouterr().out)
    assert {file["state"] for file in document["files"]} == {"new"}
    assert (document["written"], document["systemd"]) == (False, 255)
    assert not (root / "etc").exists()


@pytest.mark.parametrize("other", [["--dry-run"], ["--root", "/srv/image"]])
def test_only_what_was_written_here_can_be_started(other: list[str]) -> None:
    assert run("--now", *other) == 2


def test_a_root_without_systemd_is_a_matter_of_configuration(tmp_path: Path) -> None:
    assert run("--root", str(tmp_path), *PROGRAM) == 78
