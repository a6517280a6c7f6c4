from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Callable, Iterator

import pytest

from edge_runtime.errors import PlanCorruptError
from edge_runtime.plan.contents import PlanFiles, StoredFile
from edge_runtime.plan.manifest import FileRecord, Manifest, manifest_from_text, manifest_text
from edge_runtime.plan.store import PlanStore, StoredPlan

MODEL = b"small model"
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB


class Chunks:
    """Weights in pieces of 64 kB, which can be iterated again."""

    def __iter__(self) -> Iterator[bytes]:
        return (WEIGHTS[start : start + 64_000] for start in range(0, len(WEIGHTS), 64_000))


PLAN = PlanFiles({"model.onnx": MODEL, "model.onnx.data": Chunks()})


@pytest.fixture
def stored(tmp_path: Path) -> StoredPlan:
    def manifest(version: int) -> Manifest:
        tensor = {"name": "x", "dtype": "FP32", "shape": [2]}
        return Manifest.model_validate(
            {
                "name": "m",
                "version": version,
                "created": "",
                "edge_runtime": "0",
                "build_key": "k",
                "precision": "fp32",
                "plan": PLAN.record,
                "data": {},
                "device": {},
                "candidates": [],
                "source": {"source": "m.onnx", "digest": "", "files": {}},
                "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
                "inputs": [tensor],
                "outputs": [tensor],
                "max_batch_size": 0,
                "profile": {"x": {"min": [2], "opt": [2], "max": [2]}},
            }
        )

    return PlanStore(tmp_path).publish("m", manifest, PLAN.contents)


def test_a_record_names_every_file_and_equal_plans_have_equal_records() -> None:
    record = PLAN.record
    assert (record.file, record.nbytes, record.sha256) == ("model.onnx", 11, hashlib.sha256(MODEL).hexdigest())
    expected = FileRecord(file="model.onnx.data", sha256=hashlib.sha256(WEIGHTS).hexdigest(), nbytes=len(WEIGHTS))
    assert record.weights == expected
    assert record.total_nbytes == 11 + len(WEIGHTS)
    assert PlanFiles({"model.onnx": MODEL, "model.onnx.data": [WEIGHTS]}).record == record
    assert PlanFiles({"model.onnx": MODEL}).record != record


def test_a_plan_of_one_file_has_no_weights_apart() -> None:
    plan = PlanFiles({"model.onnx": MODEL})
    assert (plan.model, plan.weights, plan.record.weights, plan.record.total_nbytes) == (MODEL, None, None, 11)


def test_both_files_come_back_out_of_the_store(stored: StoredPlan) -> None:
    files = stored.open_files()
    assert (files.model, files.record) == (MODEL, PLAN.record)
    assert b"".join(files.weights or ()) == WEIGHTS
    assert stored.read_plan() == MODEL


def test_a_manifest_without_weights_is_read_as_ever(stored: StoredPlan) -> None:
    content = json.loads(manifest_text(stored.manifest))
    assert content["schema"] == 1
    del content["plan"]["weights"]
    assert manifest_from_text(json.dumps(content), "m").plan.weights is None


@pytest.mark.parametrize("name", ["../model.data", "", "a/b", ".hidden"])
def test_weights_outside_the_versions_folder_are_refused(stored: StoredPlan, name: str) -> None:
    content = json.loads(manifest_text(stored.manifest))
    content["plan"]["weights"]["file"] = name
    with pytest.raises(PlanCorruptError, match=r"plan\.weights\.file"):
        manifest_from_text(json.dumps(content), "m")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "short": lambda path: os.truncate(path, len(WEIGHTS) - 1),
    "long": lambda path: os.truncate(path, len(WEIGHTS) + 1),
    "changed": lambda path: path.write_bytes(WEIGHTS[:-1] + b"?"),
    "a link": lambda path: (path.rename(path.with_name("moved")), path.symlink_to(path.with_name("moved"))),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["model.onnx", "model.onnx.data"])
def test_a_damaged_file_is_refused(stored: StoredPlan, damage: str, file: str) -> None:
    DAMAGES[damage](stored.folder / file)
    with pytest.raises(PlanCorruptError, match=f"{file}: "):
        stored.read_plan()
    assert PlanStore(stored.folder.parents[1]).find("m", "k") is None


def test_the_size_is_told_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**40)
    empty = FileRecord(file="huge", sha256=hashlib.sha256().hexdigest(), nbytes=0)
    for record in (empty, empty.model_copy(update={"nbytes": 5})):
        with pytest.raises(PlanCorruptError, match=f"expected {record.nbytes} bytes .* got {2**40} bytes"):
            StoredFile(path, record).read()
