"""A model with its weights in a second file, from the exporter's folder to answers from the store."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_runtime.engine import loading
from edge_runtime.engine.loading import EngineOptions, load
from edge_runtime.errors import PlanCorruptError
from edge_runtime.graph import weights
from edge_runtime.graph.model import OnnxModel, load_model
from edge_runtime.graph.portable import portable
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.manifest import Manifest, range_record, tensor_record
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.tensors import ShapeRange

PROFILE = {"x": ShapeRange((1, 64), (1, 64), (4, 64))}
WIDE = 2_150_000  # of the slow test: its four matrices take 550 MB each


def write_model(folder: Path, width: int) -> Path:
    """y = x @ u0 @ v0 @ u1 @ v1, each matrix 64 x `width` or its inverse shape, with entries that a formula gives."""
    model = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
    graph = model.graph
    graph.name = "net"
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64]))
    graph.output.append(helper.make_tensor_value_info("y3", TensorProto.FLOAT, ["batch", 64]))
    offset = 0
    with (folder / "weights.bin").open("wb") as file:
        for index in range(4):
            shape = (64, width) if index % 2 == 0 else (width, 64)
            nbytes = 4 * 64 * width
            tensor = graph.initializer.add(name=f"w{index}", dims=shape, data_type=TensorProto.FLOAT)
            weights.refer(tensor, "weights.bin", offset, nbytes)
            file.write(matrix(index, width).reshape(shape))
            offset += nbytes
            node = helper.make_node("MatMul", [f"y{index - 1}" if index else "x", f"w{index}"], [f"y{index}"])
            graph.node.append(node)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def matrix(index: int, width: int) -> np.ndarray:
    """A row repeated, shifted by one from matrix to matrix: cheap to make, and no two alike."""
    row = np.random.default_rng(index).normal(0, 0.1 if index % 2 == 0 else 1 / width, 4 * 64).astype(np.float32)
    return np.tile(row, width // 4)


def expected(x: np.ndarray, width: int) -> np.ndarray:
    for index in range(4):
        x = x @ matrix(index, width).reshape((64, width) if index % 2 == 0 else (width, 64))
    return x


def publish(store: PlanStore, model: OnnxModel) -> StoredPlan:
    plan = PlanFiles(model.to_files())

    def manifest(version: int) -> Manifest:
        return Manifest.model_validate(
            {
                "name": "large",
                "version": version,
                "created": "",
                "edge_runtime": "0",
                "build_key": "k",
                "precision": "fp32",
                "plan": plan.record,
                "data": {},
                "device": {},
                "candidates": [],
                "source": {"source": "net.onnx", "digest": model.digest, "files": dict(model.files)},
                "backend": {"name": "onnxruntime", "version": "1", "platform": "onnxruntime_onnx", "device": "cpu"},
                "inputs": [tensor_record(spec) for spec in model.inputs],
                "outputs": [tensor_record(spec) for spec in model.outputs],
                "profile": {name: range_record(limits) for name, limits in PROFILE.items()},
                "max_batch_size": 4,
            }
        )

    return store.publish("large", manifest, plan.contents)


def stored_plan(folder: Path, width: int) -> StoredPlan:
    """The plan of a model that is written, loaded, made portable, and whose own files are then gone."""
    path = write_model(folder, width)
    model = portable(with_shapes(load_model(path), PROFILE))
    path.unlink()
    path.with_name("weights.bin").unlink()
    return publish(PlanStore(folder / "engines"), model)


def check_journey(folder: Path, width: int) -> None:
    stored = stored_plan(folder, width)
    gc.collect()
    assert sorted(path.name for path in stored.folder.iterdir()) == ["manifest.json", "model.onnx", "model.onnx.data"]
    assert stored.manifest.plan.total_nbytes > 4 * 4 * 64 * width > 1000 * stored.manifest.plan.nbytes
    x = np.random.default_rng(9).normal(size=(2, 64)).astype(np.float32)
    answer = expected(x, width)
    with load(stored, EngineOptions(warm_up_runs=0)) as engine:
        np.testing.assert_allclose(engine.infer({"x": x})["y3"], answer, rtol=1e-3, atol=1e-4)


def test_a_large_model_is_loaded_stored_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LIMIT_NBYTES", 100_000)
    check_journey(tmp_path, 4000)


def has_room(folder: Path) -> bool:
    """Whether there are 10 GB of memory and 7 GB of disk."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) > 10e6 and shutil.disk_usage(folder).free > 7e9


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_of_over_two_gib_is_loaded_stored_and_run(tmp_path: Path) -> None:
    if not has_room(tmp_path):
        pytest.skip("needs 10 GB of memory and 7 GB of disk")
    try:
        check_journey(tmp_path, WIDE)
    finally:
        shutil.rmtree(tmp_path)


def test_changed_weights_are_refused_before_the_library_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "LIMIT_NBYTES", 100_000)
    stored = stored_plan(tmp_path, 4000)
    path = stored.folder / "model.onnx.data"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    monkeypatch.setattr("edge_runtime.engine.onnxruntime.load_session", lambda *_: pytest.fail("asked"))
    with pytest.raises(PlanCorruptError, match=r"model\.onnx\.data: expected .* sha256"):
        loading.load(stored)
