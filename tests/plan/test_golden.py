from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.errors import PlanCorruptError
from edge_runtime.plan.golden import Golden, read_golden
from edge_runtime.plan.manifest import Manifest, range_record, tensor_record
from edge_runtime.plan.store import StoredPlan
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec, bfloat16_from_float32

Array = npt.NDArray[Any]

SIGNATURE = Signature(
    (TensorSpec("a/b:0", DType.FP32, (1, 3)), TensorSpec("A/B:0", DType.INT64, (2,))),
    (TensorSpec("scores", DType.FP32, (1, 200)), TensorSpec("ids", DType.INT64, (3,))),
    {"a/b:0": ShapeRange.fixed((1, 3)), "A/B:0": ShapeRange.fixed((2,))},
)


def golden() -> Golden:
    rng = np.random.default_rng(5)
    inputs = {"a/b:0": rng.standard_normal((1, 3)).astype(np.float32), "A/B:0": np.array([1, 2])}
    outputs = {"scores": rng.standard_normal((1, 200)).astype(np.float32), "ids": np.array([3, 4, 5])}
    return Golden(inputs, outputs, "held out")


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "m",
            "version": 1,
            "created": "",
            "edge_runtime": "0",
            "build_key": "k",
            "precision": "fp32",
            "plan": {"file": "model.onnx", "sha256": "0" * 64, "nbytes": 1},
            "data": {},
            "device": {},
            "candidates": [],
            "source": {"source": "m.onnx", "digest": "", "files": {}},
            "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
            "inputs": [tensor_record(spec) for spec in SIGNATURE.inputs],
            "outputs": [tensor_record(spec) for spec in SIGNATURE.outputs],
            "profile": {name: range_record(limits) for name, limits in SIGNATURE.profile.items()},
            "max_batch_size": 0,
            **changes,
        }
    )


def stored_in(folder: Path, kept: Golden) -> StoredPlan:
    content, record = kept.to_file(SIGNATURE)
    (folder / record.file.file).write_bytes(content)
    return StoredPlan(folder, manifest(golden=record), "")


def changed(stored: StoredPlan, **changes: Any) -> StoredPlan:
    return dataclasses.replace(stored, manifest=stored.manifest.model_copy(update=changes))


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    kept = golden()
    read = read_golden(stored_in(tmp_path, kept))
    assert read is not None
    assert read.origin == "held out"
    assert read.is_exact(kept.outputs)
    assert all(np.array_equal(read.inputs[name], value) for name, value in kept.inputs.items())


def test_a_plan_without_one_has_none(tmp_path: Path) -> None:
    assert read_golden(StoredPlan(tmp_path, manifest(), "")) is None


@pytest.mark.parametrize("offset", [0, 40, -30])
def test_a_flipped_bit_refuses_the_file(tmp_path: Path, offset: int) -> None:
    stored = stored_in(tmp_path, golden())
    content = bytearray((tmp_path / "golden.npz").read_bytes())
    content[offset] ^= 4
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(PlanCorruptError, match=r"golden\.npz"):
        read_golden(stored)


def test_outputs_other_than_the_manifest_names_refuse_it(tmp_path: Path) -> None:
    stored = stored_in(tmp_path, golden())
    assert stored.manifest.golden is not None
    record = stored.manifest.golden.model_copy(update={"outputs": {"scores": "0" * 64, "ids": "1" * 64}})
    with pytest.raises(PlanCorruptError, match="other outputs"):
        read_golden(changed(stored, golden=record))


def test_other_tensors_than_the_plan_takes_refuse_it(tmp_path: Path) -> None:
    stored = stored_in(tmp_path, golden())
    inputs = [tensor_record(TensorSpec("a/b:0", DType.FP64, (1, 3))), *stored.manifest.inputs[1:]]
    with pytest.raises(PlanCorruptError, match="other tensors"):
        read_golden(changed(stored, inputs=inputs))


def with_scores(change: Callable[[Array], Array]) -> Dict[str, Array]:
    kept = golden()
    return {**kept.outputs, "scores": change(kept.outputs["scores"].copy())}


def put(value: float) -> Callable[[Array], Array]:
    def change(scores: Array) -> Array:
        scores[0, 7] = value
        return scores

    return change


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (with_scores(lambda scores: scores * np.float32(1.001)), ""),
        (with_scores(lambda scores: scores * np.float32(1.2)), "differs by 20.0%"),
        (with_scores(np.zeros_like), "differs by 100.0%"),
        (with_scores(put(np.nan)), "NaN or infinity"),
        (with_scores(lambda scores: scores[:, :100]), r"\[1, 100\]"),
        (with_scores(lambda scores: scores.astype(np.float64)), "float64"),
        ({**golden().outputs, "ids": np.array([3, 4, 6])}, "33.3% of its elements"),
        ({"scores": golden().outputs["scores"]}, "are expected"),
    ],
)
def test_a_little_rounding_passes_and_another_answer_does_not(outputs: Dict[str, Array], text: str) -> None:
    found = golden().difference(outputs)
    assert bool(found) == bool(text)
    assert re.search(text, found)


def test_infinity_and_nan_where_they_are_expected_pass() -> None:
    expected = np.array([np.nan, np.inf, 1.0], np.float32)
    kept = Golden({}, {"y": expected}, "made up")
    assert kept.difference({"y": expected.copy()}) == ""
    assert kept.is_exact({"y": expected.copy()})


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (bfloat16_from_float32(np.float32([1, 2])), bfloat16_from_float32(np.float32([1, 3]))),
        (np.array([b"cat", b""], object), np.array([b"cat", b"dog"], object)),
        (np.array([True, False]), np.array([True, True])),
        (np.zeros(4, np.float16), np.full(4, 0.01, np.float16)),
    ],
)
def test_every_type_is_compared(expected: Array, got: Array) -> None:
    kept = Golden({}, {"y": expected}, "made up")
    assert kept.difference({"y": expected.copy()}) == ""
    assert kept.difference({"y": got})
    assert kept.is_exact({"y": expected.copy()})
    assert not kept.is_exact({"y": got})


def test_strings_and_what_is_too_large_cannot_be_stored() -> None:
    assert not Golden({"x": np.array([b"a"], object)}, {}, "made up").can_be_stored
    assert not Golden({"x": np.broadcast_to(np.float32(0), (17 << 20,))}, {}, "made up").can_be_stored
    assert golden().can_be_stored
