"""What the verbs say of a model that is split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CODE = "from edge_runtime.cli.main import main; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, classifier: bytes) -> Path:
    folder = tmp_path_factory.mktemp("split")
    (folder / "m.onnx").write_bytes(classifier)
    run(folder, "build", "m.onnx", "--split", "h", "--split", "r", "--precision", "fp32")
    return folder


def run(folder: Path, *words: str, code: int = 0) -> Any:
    """What a verb prints on stdout, and on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "COLUMNS": "200"},
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_inspect_shows_the_parts_and_what_goes_between_them(folder: Path) -> None:
    text, _ = run(folder, "inspect", "m")
    rows = [" ".join(line.strip("│ ").split()) for line in text.splitlines()]
    assert any(row.startswith("split at │ h, r; latency ") and row.endswith("of the whole's") for row in rows)
    names = ("model.onnx", "model.1.onnx", "model.2.onnx")
    for number, name in enumerate(names, 1):
        assert any(row.startswith(f"part {number} │ {name} (") for row in rows)
    assert "part 2 takes │ h FP32 1x16..1x16..8x16" in rows
    assert "part 3 takes │ r FP32 1x16..1x16..8x16" in rows


def test_inspect_has_the_chain_as_json_and_build_knows_it_again(folder: Path) -> None:
    chain = json.loads(run(folder, "inspect", "m", "--json")[0])["manifest"]["chain"]
    assert chain["split"] == ["h", "r"]
    assert [[tensor["name"] for tensor in part["inputs"]] for part in chain["parts"]] == [["x"], ["h"], ["r"]]
    words = ("build", "m.onnx", "--split", "h", "--split", "r", "--precision", "fp32", "--json")
    assert json.loads(run(folder, *words)[0])["reused"] is True


def test_bench_times_the_layers_of_all_parts(folder: Path) -> None:
    text, _ = run(folder, "bench", "m", "-n", "5", "--warm-up", "1", "--layers", "--layer-runs", "2", "--json")
    layers = json.loads(text)["layers"]
    assert [layer["nodes"] for layer in layers["layers"]] == [["hidden"], ["relu"], ["head"]]
    assert layers["notes"][0].startswith("the model is split into 3 plans of 1, 1, 1 layers")


def test_a_tensor_that_there_is_not_is_a_configuration_error(folder: Path) -> None:
    _, error = run(folder, "build", "m.onnx", "--split", "hh", code=78)
    assert "m.onnx has no tensor of that name: did you mean 'h'?" in error
