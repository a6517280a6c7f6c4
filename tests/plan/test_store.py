from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError, PlanCorruptError, PlanError, PlanNotFoundError, PlanTargetError
from edge_runtime.plan import files
from edge_runtime.plan.manifest import Manifest, manifest_from_text, manifest_text
from edge_runtime.plan.store import PlanStore, StoredPlan, open_plan

PLAN = b"plan bytes"


def manifest(version: int, name: str = "m", plan: bytes = PLAN, build_key: str = "k") -> Manifest:
    tensor = {"name": "x", "dtype": "FP32", "shape": [-1, 2], "axes": ["batch", ""]}
    return Manifest.model_validate(
        {
            "schema": 1,
            "name": name,
            "version": version,
            "created": "2026-01-01T00:00:00+00:00",
            "edge_runtime": "0",
            "build_key": build_key,
            "precision": "fp32",
            "plan": {"file": "model.onnx", "sha256": hashlib.sha256(plan).hexdigest(), "nbytes": len(plan)},
            "source": {"source": "m.onnx", "digest": "0" * 64, "files": {}},
            "data": {},
            "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
            "device": {"kind": "cpu"},
            "inputs": [tensor],
            "outputs": [{**tensor, "name": "y"}],
            "profile": {"x": {"min": [1, 2], "opt": [1, 2], "max": [4, 2]}},
            "max_batch_size": 4,
            "candidates": [],
        }
    )


def publish(store: PlanStore, plan: bytes = PLAN, build_key: str = "k", is_new: bool = False) -> StoredPlan:
    return store.publish(
        "m", lambda version: manifest(version, plan=plan, build_key=build_key), {"model.onnx": plan}, is_new=is_new
    )


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "engines")


def test_versions_count_up_and_the_highest_is_served(store: PlanStore) -> None:
    assert [publish(store).manifest.version for _ in range(3)] == [1, 2, 3]
    assert store.open("m").manifest.version == 3
    assert store.models() == ["m"]


def test_a_deleted_version_is_never_used_again(store: PlanStore) -> None:
    folder = publish(store).folder
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()
    assert publish(store).manifest.version == 2


def test_current_names_what_is_served_and_a_new_version_takes_over(store: PlanStore) -> None:
    publish(store), publish(store)
    store.serve("m", 1)
    assert store.open("m").manifest.version == 1
    publish(store)
    assert store.open("m").manifest.version == 3


def test_what_another_builder_published_meanwhile_is_taken(store: PlanStore) -> None:
    first = publish(store)
    assert publish(store, is_new=True).folder == first.folder
    assert publish(store, is_new=True, build_key="other").manifest.version == 2


@pytest.mark.parametrize("content", ["", "garbage", "99", "1\n2"])
def test_a_broken_current_is_mended_by_serving_a_version(store: PlanStore, content: str) -> None:
    publish(store), publish(store)
    (store.root / "m/current").write_text(content)
    with pytest.raises(PlanNotFoundError):
        store.open("m")
    store.serve("m", 2)
    assert store.open("m").manifest.version == 2


def test_numbers_that_run_out_are_refused_before_anything_is_written(store: PlanStore) -> None:
    publish(store)
    (store.root / "m/999999999").mkdir()
    with pytest.raises(PlanError, match="no version number is left"):
        publish(store)
    assert store.versions("m") == [1]


def test_a_store_that_cannot_be_written_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlanError, match=r"can't be written"):
        PlanStore(tmp_path / "file").check_writable("m")
    PlanStore(tmp_path / "engines").check_writable("m")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_current_that_names_no_version_is_refused(store: PlanStore) -> None:
    publish(store)
    (store.root / "m/current").write_text("7\n")
    with pytest.raises(PlanNotFoundError, match="expected one of \\[1\\], got 7"):
        store.open("m")


@pytest.mark.parametrize("damage", [PLAN[:-1], PLAN + b"x", b"plan bytez", b""])
def test_changed_plan_bytes_are_refused(store: PlanStore, damage: bytes) -> None:
    stored = publish(store)
    stored.plan_path.write_bytes(damage)
    with pytest.raises(PlanCorruptError, match="expected 10 bytes"):
        stored.read_plan()


def test_a_plan_that_is_a_link_is_refused(store: PlanStore, tmp_path: Path) -> None:
    stored = publish(store)
    (tmp_path / "elsewhere").write_bytes(PLAN)
    stored.plan_path.unlink()
    stored.plan_path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlanCorruptError):
        stored.read_plan()


def test_find_skips_corrupt_versions(store: PlanStore) -> None:
    publish(store)
    publish(store).plan_path.write_bytes(b"damaged")
    found = store.find("m", "k")
    assert found is not None
    assert found.manifest.version == 1
    assert store.find("m", "other") is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", ".x", "a b", "a" * 129, "é", "a\n"])
def test_bad_model_names_never_reach_a_path(store: PlanStore, name: str) -> None:
    with pytest.raises(ConfigError):
        store.open(name)


def test_open_plan_takes_a_version_folder_or_a_model_folder(store: PlanStore) -> None:
    publish(store)
    assert open_plan(store.root / "m").manifest == open_plan(store.root / "m/1").manifest
    with pytest.raises(PlanNotFoundError):
        open_plan(store.root / "absent")


def test_a_version_moved_to_another_number_is_refused(store: PlanStore) -> None:
    publish(store).folder.rename(store.root / "m/5")
    with pytest.raises(PlanCorruptError, match="version 5"):
        store.open("m")


def test_a_newer_schema_is_refused_and_unknown_keys_are_kept() -> None:
    content = json.loads(manifest_text(manifest(1)))
    content["later"] = {"a": 1}
    assert json.loads(manifest_text(manifest_from_text(json.dumps(content), "m")))["later"] == {"a": 1}
    content["schema"] = 3
    with pytest.raises(PlanTargetError) as raised:
        manifest_from_text(json.dumps(content), "m")
    assert raised.value.exit_code == 78


def changed(**changes: object) -> str:
    return json.dumps({**json.loads(manifest_text(manifest(1))), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "{",
        "null",
        "[" * 200_000,
        changed(schema="1"),
        changed(profile={"x": {"min": [4, 2], "opt": [1, 2], "max": [4, 2]}}),
        changed(profile={"x": {"min": [1], "opt": [1], "max": [4]}}),
        changed(profile={}),
        changed(inputs=[], profile={}),
        changed(outputs=[]),
        changed(candidates=[{"precision": "fp32", "verdict": "chosen", "reason": "", "latency": {"q": 1}}]),
        changed(plan={"file": "../m", "sha256": "0" * 64, "nbytes": 1}),
    ],
)
def test_broken_manifests_are_refused(text: str) -> None:
    with pytest.raises(PlanCorruptError):
        manifest_from_text(text, "manifest.json")


@pytest.mark.parametrize("step", range(1, 7))
def test_an_error_at_any_step_leaves_the_old_plan(store: PlanStore, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    publish(store)
    calls = []

    def failing(handle: int) -> None:
        calls.append(handle)
        if len(calls) == step:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", failing)
    with pytest.raises(PlanError, match="No space left"):
        publish(store, plan=b"new")
    monkeypatch.undo()
    assert store.open("m").read_plan() in (PLAN, b"new")
    assert not [p for p in (store.root / "m").iterdir() if p.name.startswith(".stage")]


def test_a_publisher_killed_at_any_moment_leaves_whole_plans(store: PlanStore) -> None:
    publish(store)
    code = (
        "import importlib.util, sys; from pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('publisher', {str(Path(__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['publisher'] = module\n"
        "spec.loader.exec_module(module)\n"
        f"store = module.PlanStore(Path({str(store.root)!r}))\n"
        "print('ready', flush=True)\n"
        "while True: module.publish(store)\n"
    )
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        before = len(store.versions("m"))
        while len(store.versions("m")) < before + 3:
            os.sched_yield()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert all(store.open("m", version).read_plan() == PLAN for version in store.versions("m"))
    publish(store)
    assert not [p for p in (store.root / "m").iterdir() if p.name.startswith(".stage")]


def test_a_model_that_cannot_be_read_keeps_no_other_from_being_served(
    store: PlanStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store)
    secret, listed = store.root / "secret", os.listdir
    secret.mkdir()

    def refuse(path: object = ".") -> list:
        if path == secret:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert store.models() == ["m"]
    assert f"{secret}: can't be read (Permission denied)" in caplog.text
    with pytest.raises(PlanError, match="can't be read"):
        store.open("secret")
