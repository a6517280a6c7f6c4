from __future__ import annotations

from pathlib import Path

from edge_runtime.provisioning.doctor import FAILED, OK, Diagnosis, diagnose


def finding(diagnosis: Diagnosis, subject: str) -> tuple[str, str]:
    (found,) = [f for f in diagnosis.findings if f.subject == subject]
    return found.state, found.text


def test_a_machine_without_a_gpu_is_sound_and_told_as_such(tmp_path: Path) -> None:
    diagnosis = diagnose(tmp_path / "engines", tmp_path)
    assert diagnosis.is_sound
    assert finding(diagnosis, "backend")[0] == OK
    assert "not measured" in finding(diagnosis, "power, heat")[1]
    assert diagnosis.record()["device"]["kind"] == "cpu"


def test_a_machine_with_a_gpu_that_cannot_be_used_is_not_sound(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    diagnosis = diagnose(tmp_path / "engines", tmp_path)
    assert not diagnosis.is_sound
    assert finding(diagnosis, "backend")[0] == FAILED


def test_a_broken_plan_is_found(tmp_path: Path) -> None:
    version = tmp_path / "engines/m/1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{}")
    state, text = finding(diagnose(tmp_path / "engines", tmp_path), "engine store")
    assert state == FAILED
    assert "manifest.json" in text
