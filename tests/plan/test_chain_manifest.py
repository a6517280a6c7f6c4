from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from edge_runtime.errors import PlanCorruptError
from edge_runtime.plan.contents import PlanFiles, part_file
from edge_runtime.plan.manifest import Manifest, manifest_from_text, manifest_text
from edge_runtime.plan.store import PlanStore, StoredPlan

FILES = {
    "model.onnx": b"first",
    "model.1.onnx": b"second",
    "model.1.onnx.data": b"weights",
}
FIRST, SECOND = PlanFiles({"model.onnx": b"first"}), PlanFiles({k: FILES[k] for k in list(FILES)[1:]})


def tensor(name: str) -> Dict[str, Any]:
    return {"name": name, "dtype": "FP32", "shape": [-1, 2], "axes": ["batch", ""]}


def content(version: int = 1) -> Dict[str, Any]:
    limits = {"min": [1, 2], "opt": [1, 2], "max": [4, 2]}
    return {
        "schema": 2,
        "name": "m",
        "version": version,
        "created": "",
        "edge_runtime": "0",
        "build_key": "k",
        "precision": "fp32",
        "plan": FIRST.record.model_dump(),
        "data": {},
        "device": {},
        "candidates": [],
        "source": {"source": "m.onnx", "digest": "", "files": {}},
        "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
        "inputs": [tensor("x")],
        "outputs": [tensor("y")],
        "max_batch_size": 4,
        "profile": {"x": limits},
        "chain": {
            "split": ["a"],
            "parts": [
                {
                    "plan": FIRST.record.model_dump(),
                    "inputs": [tensor("x")],
                    "outputs": [tensor("a")],
                    "profile": {"x": limits},
                },
                {
                    "plan": SECOND.record.model_dump(),
                    "inputs": [tensor("x"), tensor("a")],
                    "outputs": [tensor("y")],
                    "profile": {"x": limits, "a": limits},
                    "nodes": ["n"],
                },
            ],
            "latency": {"against": "the whole", "ratio": 1.1, "low": 1.0, "high": 1.2},
        },
    }


@pytest.fixture
def stored(tmp_path: Path) -> StoredPlan:
    return PlanStore(tmp_path).publish("m", lambda version: Manifest.model_validate(content(version)), FILES)


def test_a_chain_comes_back_out_of_the_store(stored: StoredPlan) -> None:
    found = PlanStore(stored.folder.parents[1]).open("m")
    assert found.manifest == stored.manifest
    parts = found.open_parts()
    assert [part.files.model for part in parts] == [b"first", b"second"]
    assert [part.files.weights is None for part in parts] == [True, False]
    assert [spec.name for spec in parts[1].signature.inputs] == ["x", "a"]
    assert [part.nodes for part in parts] == [(), ("n",)]
    assert [path.name for path in found.plan_paths] == ["model.onnx", "model.1.onnx"]
    assert found.manifest.total_nbytes == sum(map(len, FILES.values()))
    assert found.read_plan() == b"first"


def test_a_manifest_of_one_plan_is_read_as_ever() -> None:
    plain = {key: value for key, value in content().items() if key != "chain"}
    manifest = manifest_from_text(json.dumps({**plain, "schema": 1}), "m")
    assert (manifest.chain, manifest.plans, manifest.schema_version) == (None, (manifest.plan,), 1)
    assert manifest_from_text(manifest_text(manifest), "m") == manifest


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_of_any_part_is_refused_and_the_plan_isnt_found(stored: StoredPlan, file: str) -> None:
    assert PlanStore(stored.folder.parents[1]).find("m", "k") is not None
    (stored.folder / file).write_bytes(FILES[file][:-1] + b"?")
    for read in (stored.open_parts, stored.read_plan):
        with pytest.raises(PlanCorruptError, match=f"{file}: "):
            read()
    assert PlanStore(stored.folder.parents[1]).find("m", "k") is None


CHANGES: Dict[str, tuple[Callable[[Any], object], str]] = {
    "one part": (lambda chain: chain["parts"].pop(), r"chain\.parts"),
    "first plan": (lambda chain: chain["parts"].reverse(), "a file of its own for each part, the plan's first"),
    "same file": (lambda c: c["parts"][1]["plan"].update(file="model.onnx"), "a file of its own for each part"),
    "same weights": (
        lambda c: c["parts"][1]["plan"]["weights"].update(file="model.1.onnx"),
        "a file of its own for each part",
    ),
    "outside": (lambda c: c["parts"][1]["plan"].update(file="../m.onnx"), r"parts\.1\.plan\.file"),
    "made by nobody": (lambda c: c["parts"][0]["outputs"][0].update(name="b"), "input 'a' of part 2: is made by no"),
    "later": (lambda c: c["parts"][0]["inputs"][0].update(name="y"), "expected the same, and outputs"),
    "other type": (
        lambda c: c["parts"][0]["outputs"][0].update(dtype="FP16"),
        r"input 'a' of part 2: expected FP16 \[-1, 2\], got FP32",
    ),
    "no output": (lambda c: c["parts"][1]["outputs"][0].update(name="z"), "output 'y': is made by no part"),
    "no profile": (lambda c: c["parts"][1]["profile"].pop("a"), "expected the same, and outputs"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_parts_that_do_not_hang_together_are_refused(change: str) -> None:
    changed = content()
    alter, message = CHANGES[change]
    alter(changed["chain"])
    with pytest.raises(PlanCorruptError, match=message):
        manifest_from_text(json.dumps(changed), "m")


@pytest.mark.parametrize(
    ("file", "number", "expected"),
    [("model.onnx", 0, "model.onnx"), ("model.onnx", 2, "model.2.onnx"), ("model.plan", 1, "model.1.plan")],
)
def test_files_of_parts_are_numbered_from_the_second_on(file: str, number: int, expected: str) -> None:
    assert part_file(file, number) == expected
