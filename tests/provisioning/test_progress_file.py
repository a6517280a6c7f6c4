from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from fakes.heard import Heard

from edge_runtime.plan.progress import FAILED, RUNNING, ModelProgress, progress_text, read_progress
from edge_runtime.provisioning import progress_file
from edge_runtime.provisioning.progress_file import ProgressFile


def of(root: Path, model: str) -> ModelProgress | None:
    found = read_progress(root)
    return None if found is None else found.of(model)


def test_models_wait_then_are_built_and_then_ended(tmp_path: Path) -> None:
    announced: List[str] = []
    heard = Heard()
    file = ProgressFile(tmp_path, ["a", "b"], heard, announced.append)
    assert progress_text(tmp_path, "b") == "waits for its turn to be built"
    file.begin("a")
    file.stage("calibrating", 8)
    file.note("short of memory")
    assert progress_text(tmp_path, "a") == "being built: calibrating, 0 of 8"
    assert announced == ["building a: reading the recipe", "building a: calibrating"]
    assert heard.notes == ["a: short of memory"]
    file.end("no data")
    assert of(tmp_path, "a") == ModelProgress("a", FAILED, reason="no data")
    assert of(tmp_path, "b") == ModelProgress("b", RUNNING)


def test_steps_are_written_once_a_second(tmp_path: Path) -> None:
    now = [0.0]
    heard = Heard()
    file = ProgressFile(tmp_path, ["m"], heard, clock=lambda: now[0])
    file.begin("m")
    file.stage("calibrating", 100)
    written: List[int] = []
    for step in range(30):
        now[0] = step / 10
        file.advance()
        found = of(tmp_path, "m")
        assert found is not None
        written.append(found.done)
    assert sorted(set(written)) == [0, 11, 21]
    assert heard.steps == 30


def test_why_a_model_failed_is_kept_until_it_is_tried_again(tmp_path: Path) -> None:
    first = ProgressFile(tmp_path, ["a", "b"], Heard())
    first.begin("a")
    first.end("no data")
    first.begin("b")
    first.end()
    ProgressFile(tmp_path, [], Heard())
    assert of(tmp_path, "a") == ModelProgress("a", FAILED, reason="no data")
    assert of(tmp_path, "b") is None
    ProgressFile(tmp_path, ["a"], Heard())
    assert of(tmp_path, "a") == ModelProgress("a", RUNNING)


def test_a_full_disk_keeps_nobody_from_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(root: Path, progress: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress_file, "write_progress", full)
    ProgressFile(tmp_path, ["m"], Heard()).begin("m")
    assert "progress can't be written there (No space left on device)" in caplog.text
