"""`build --all`, `build --keep` and `rebuild` as scripts see them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from fakes.fleets import publish, write_recipe

from edge_runtime.cli.main import main
from edge_runtime.plan.progress import read_progress
from edge_runtime.plan.store import PlanStore
from edge_runtime.plan.trust import TrustPolicy
from edge_runtime.provisioning.verdict import read_verdict


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ending:
        main(words)
    return int(ending.value.code or 0)


def test_all_are_built_and_told_in_one_table(
    folder: Path, classifier: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(folder / "engines", "good", classifier)
    assert run("build", "--all") == 0
    printed = capsys.readouterr().out
    for text in ("good", "built", "fp32", "not signed, for there is no key (--sign): good"):
        assert text in printed
    write_recipe(folder / "engines", "bad")
    assert run("build", "--all") == 1
    captured = capsys.readouterr()
    for text in ("good", "unchanged", "bad", "failed", "no such file"):
        assert text in captured.out
    assert "1 of 2 models not built: bad" in captured.err


def test_json_is_one_document_whatever_the_outcome(
    folder: Path, classifier: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(folder / "engines", "good", classifier)
    write_recipe(folder / "engines", "bad")
    assert run("build", "--all", "--json") == 1
    (line,) = capsys.readouterr().out.splitlines()
    document: Any = json.loads(line)
    assert document["is_good"] is False
    assert [(model["model"], model["state"], model["version"]) for model in document["models"]] == [
        ("bad", "failed", None),
        ("good", "built", 1),
    ]


def test_what_came_of_each_is_reported_to_a_folder(folder: Path, classifier: bytes) -> None:
    write_recipe(folder / "engines", "good", classifier)
    write_recipe(folder / "engines", "bad")
    assert run("build", "--all", "--report", "reports") == 1
    found = {path.stem: read_verdict(path, TrustPolicy()).record for path in (folder / "reports").iterdir()}
    assert {model: record.state for model, record in found.items()} == {"good": "published", "bad": "failed"}
    assert found["good"].version == 1
    assert "no such file" in found["bad"].reason


def test_nothing_to_build_is_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("build", "--all"), ("rebuild",)):
        assert run(*words) == 0
        assert "nothing to build" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "words",
    [("--all", "m.toml"), ("--all", "--again"), ("--all", "--precision", "int8"), ("--all", "--split", "x"), ()],
)
def test_all_goes_with_no_flag_of_a_recipe_and_one_of_both_is_needed(words: List[str]) -> None:
    assert run("build", *words) == 2


def test_a_plain_build_removes_old_versions_only_when_told(
    folder: Path, classifier: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = str(write_recipe(folder / "engines", "m", classifier)), PlanStore(folder / "engines")
    for _ in range(4):
        publish(store, "m")
    assert run("build", path, "--again") == 0
    assert len(store.versions("m")) == 5
    capsys.readouterr()
    assert run("build", path, "--keep", "1") == 0
    assert "removed old versions: 1, 2, 3" in capsys.readouterr().out
    assert store.versions("m") == [4, 5]
    assert run("build", path, "--keep", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [4]


def test_a_plan_that_was_asked_for_is_built_and_the_request_goes(
    folder: Path, classifier: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(folder / "engines", "m", classifier)
    (folder / "requests").mkdir()
    for name in ("m", "nobodys"):
        (folder / "requests" / name).touch()
    assert run("rebuild", "--requests", "requests", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert [(model["model"], model["state"]) for model in document["models"]] == [("m", "built"), ("nobodys", "failed")]
    assert list((folder / "requests").iterdir()) == []


def test_a_request_that_stays_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "requests/odd").mkdir(parents=True)
    (folder / "requests/odd/file").touch()
    assert run("rebuild", "--requests", "requests") == 1
    assert "requests that can't be removed from requests: odd" in capsys.readouterr().err


COMMAND = [sys.executable, "-c", "from edge_runtime.cli.main import main; main()"]


def test_a_second_run_says_who_has_the_store_and_ends_with_75(folder: Path, classifier: bytes) -> None:
    write_recipe(folder / "engines", "m", classifier, '[held_out]\ndata = "waiting:rows"\n')
    os.mkfifo(folder / "go")
    (folder / "engines/waiting.py").write_text(
        f"import pathlib\nimport numpy as np\nGO = pathlib.Path({str(folder / 'go')!r})\n\ndef rows():\n"
        "    if GO.exists():\n        GO.read_text()\n        GO.unlink()\n"
        "    yield {'x': np.ones((1, 4), np.float32)}\n"
    )
    first = subprocess.Popen([*COMMAND, "build", "--all", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with (folder / "go").open("w"):  # opens once the first run reads its data
        second = subprocess.run([*COMMAND, "build", "--all"], capture_output=True, text=True, check=False)
        progress = read_progress(folder / "engines")
    assert second.returncode == 75
    assert f"process {first.pid} builds its plans" in second.stderr
    assert progress is not None
    assert progress.writer.pid == first.pid
    first.communicate()
    assert first.returncode == 0


@pytest.mark.slow
def test_runs_killed_at_random_moments_are_gone_on_with(folder: Path, classifier: bytes) -> None:
    models = ("a", "b", "c")
    for model in models:
        write_recipe(folder / "engines", model, classifier)
    store, rng = PlanStore(folder / "engines"), random.Random(7)
    for number in range(12):
        write_recipe(folder / "engines", rng.choice(models), more=f"[gate]\nmax_drop = {number + 1}\n")
        child = subprocess.Popen([*COMMAND, "build", "--all", "--json"], stdout=subprocess.DEVNULL)
        try:
            child.wait(rng.uniform(0.2, 6))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
        for model in store.models():
            assert store.open(model).read_plan()
    done = subprocess.run([*COMMAND, "build", "--all", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {outcome["state"] for outcome in json.loads(done.stdout)["models"]} <= {"built", "unchanged"}
    assert store.models() == list(models)
    assert all(len(store.versions(model)) <= 3 for model in models)
    hidden = [path.name for path in (folder / "engines").rglob(".*") if path.name not in (".highest", ".building")]
    assert hidden == [".progress.json"]
