"""`build` as people and programs see it: candidates, explanations, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from edge_runtime.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "m.onnx").write_bytes(classifier)
    rows = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    np.savez(tmp_path / "c.npz", x=rows[:100])
    np.savez(tmp_path / "h.npz", x=rows[100:])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_RUNTIME_GATE__LATENCY_BUDGET_S", "0.1")
    return tmp_path


def build(*words: str) -> int:
    arguments: List[str] = ["build", "m.onnx", "--calibration", "c.npz", "--held-out", "h.npz", *words]
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    return int(ending.value.code or 0)


@pytest.mark.usefixtures("folder")
def test_a_build_ends_with_the_candidates_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert build("--precision", "int8", "--max-drop", "0.1") == 0
    printed = capsys.readouterr().out
    for name in ("fp32", "int8 entropy", "int8 percentile", "int8 mse", "int8 max", "chosen int8"):
        assert name in printed
    assert "layers in INT8" not in printed


@pytest.mark.usefixtures("folder")
def test_explain_shows_the_layers_now_and_for_a_plan_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for reused in (False, True):
        assert build("--precision", "int8", "--max-drop", "0.1", "--explain") == 0
        printed = capsys.readouterr().out
        assert ("unchanged, re-used" in printed) is reused
        assert "layers in INT8 one group at a time" in printed
        assert "hidden" in printed
        assert "head" in printed


@pytest.mark.usefixtures("folder")
def test_a_refused_build_shows_its_candidates_too(capsys: pytest.CaptureFixture[str]) -> None:
    refused = ("--precision", "int8", "--max-drop", "1e-12", "--metric", "mse", "--explain")
    assert build(*refused) == 1
    captured = capsys.readouterr()
    assert "int8 entropy" in captured.out
    assert "layers in INT8" in captured.out
    assert "nothing was published" in captured.err
    assert build(*refused, "--json") == 1
    document: Any = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "GateError"
    assert {record["precision"] for record in document["candidates"]} == {"fp32", "int8"}
    assert document["sensitivity"][0]["error"] > 0


def test_a_table_of_trtexec_is_taken_by_a_flag(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "trt.cache").write_text("TRT-8205-EntropyCalibration2\nx: 3d000000\nr: 3d800000\n")
    assert build("--precision", "int8", "--max-drop", "0.5", "--table", "trt.cache", "--json") == 0
    candidates = json.loads(capsys.readouterr().out)["manifest"]["candidates"]
    assert [record["calibrator"] for record in candidates] == [None, "imported"]
