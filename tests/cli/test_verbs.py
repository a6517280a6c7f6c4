"""Every verb on one small plan: exit status, and one JSON document on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

CODE = "from edge_runtime.cli.main import main; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, classifier: bytes) -> Path:
    folder = tmp_path_factory.mktemp("verbs")
    (folder / "m.onnx").write_bytes(classifier)
    np.savez(folder / "i.npz", x=np.ones((2, 4), np.float32))
    run(folder, "build", "m.onnx")
    return folder


def run(folder: Path, *words: str, code: int = 0) -> Any:
    """The JSON document that a verb prints with --json, and nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, *words, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_build_says_where_the_plan_is_and_that_it_was_there_before(folder: Path) -> None:
    document = run(folder, "build", "m.onnx")
    assert document["reused"] is True
    assert document["plan"] == "engines/m/1"
    assert document["manifest"]["schema"] == 1
    assert document["manifest"]["precision"] == "fp32"


def test_inspect_shows_plans_models_and_tables(folder: Path) -> None:
    assert run(folder, "inspect", "m")["manifest"] == run(folder, "inspect", "engines/m/1")["manifest"]
    assert run(folder, "inspect", "m.onnx")["inputs"] == [{"name": "x", "dtype": "FP32", "shape": [-1, 4]}]
    (folder / "t.cache").write_text("TRT-100300-EntropyCalibration2\nx: 3c010204\n")
    assert list(run(folder, "inspect", "t.cache")["scales"]) == ["x"]


def test_inspect_reads_the_header_of_a_plan_from_anywhere(folder: Path) -> None:
    (folder / "old.engine").write_bytes(b"ptrt" + bytes(4) + bytes([205]) + bytes(90))
    (folder / "new.plan").write_bytes(b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(90))
    found = [run(folder, "inspect", name) for name in ("old.engine", "new.plan")]
    assert [(one["library"], one["version"]) for one in found] == [("tensorrt", "8.2"), ("tensorrt", "10.3.0.30")]
    assert run(folder, "inspect", "absent.plan", code=1)["error"]["type"] == "PlanCorruptError"


@pytest.mark.tensorrt
def test_a_plan_of_tensorrt_says_what_ties_it_to_a_board(folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    words = ("m.onnx", "--name", "rtx", "--backend", "tensorrt_rtx", "--precision", "fp16")
    assert run(folder, "build", *words, code=1)["error"]["type"] == "GateError"
    built = run(folder, "build", *words, "--publish-failed")["manifest"]
    assert (built["forced"], built["target"]["form"], built["plan"]["file"]) == (True, "strong", "model.plan")
    document = run(folder, "inspect", "rtx")
    assert document["here"]["loads"] is False
    assert "no NVIDIA GPU" in document["here"]["remarks"][0]
    for verb in ("bench", "serve"):
        assert run(folder, verb, "rtx", code=78)["error"]["type"] == "BackendUnavailableError"


def test_inspect_refuses_a_damaged_plan(folder: Path, tmp_path: Path, classifier: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(classifier)
    run(tmp_path, "build", "m.onnx")
    (tmp_path / "engines/m/1/model.onnx").write_bytes(b"damaged")
    assert run(tmp_path, "inspect", "m", code=1)["error"]["type"] == "PlanCorruptError"


def test_infer_prints_and_saves_the_outputs(folder: Path) -> None:
    document = run(folder, "infer", "m", "--input", "i.npz", "--output", "o.npz")
    printed = document["outputs"]["scores"]
    assert printed["shape"] == [2, 3]
    np.testing.assert_allclose(np.load(folder / "o.npz")["scores"], printed["data"], rtol=1e-6)


@pytest.mark.parametrize("words", [["--input", "i.npz"], ["--batch", "8"], ["--concurrency", "2", "--threads", "1"]])
def test_bench_reports_figures_environment_and_what_was_not_measured(folder: Path, words: list[str]) -> None:
    report = run(folder, "bench", "m", "-n", "70", "--warm-up", "2", *words)
    assert report["latency"]["n"] == 70
    assert report["latency"]["p90_ms"] is not None
    assert report["latency"]["p99_ms"] is None
    assert report["latency"]["n_too_small"]["p99"] == "n too small (662 needed)"
    assert report["cold_start"]["load_ms"] > 0
    assert "power" in report["not_measured"]


@pytest.mark.parametrize("content", [b"garbage", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_an_input_that_is_no_npz_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bad.npz").write_bytes(content)
    assert run(folder, "infer", "m", "--input", "bad.npz", code=1)["error"]["type"] == "DataError"


def test_doctor_is_one_document(folder: Path) -> None:
    assert run(folder, "doctor")["sound"] is True


@pytest.fixture(scope="module")
def names(folder: Path) -> Path:
    """The folder with a plan `names` too, whose input and output are strings."""
    table = {"keys_strings": ["a", "é"], "values_strings": ["b", "ü"], "default_string": "?"}
    node = helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **table)
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "xy"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (folder / "names.onnx").write_bytes(model.SerializeToString())
    run(folder, "build", "names.onnx")
    return folder


@pytest.mark.parametrize("text", [np.array(["é", "z"]), np.array(["é".encode(), b"z"])], ids=["text", "bytes"])
def test_strings_are_read_printed_and_saved(names: Path, text: np.ndarray) -> None:
    np.savez(names / "s.npz", x=text)
    document = run(names, "infer", "names", "--input", "s.npz", "--output", "t.npz")
    assert document["outputs"] == {"y": {"shape": [2], "dtype": "bytes", "data": ["ü", "?"]}}
    assert np.load(names / "t.npz")["y"].tolist() == ["ü".encode(), b"?"]


def test_a_file_of_objects_is_still_refused(names: Path) -> None:
    np.savez(names / "s.npz", x=np.array(["a"], object))
    assert run(names, "infer", "names", "--input", "s.npz", code=1)["error"]["type"] == "DataError"
