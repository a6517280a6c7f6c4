from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cli.main import main

QUICK = ("-n", "10", "--budget-s", "0.1", "--batches", "1,2")


@pytest.fixture
def run(tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a verb in a folder with the recipe of a small model: exit status and stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_RUNTIME_GATE__LATENCY_BUDGET_S", "0.1")
    Path("m.onnx").write_bytes(classifier)
    Path("m.toml").write_text('[model]\npath = "m.onnx"\nmax_batch = 4\n')

    def call(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ending:
            main(words)
        return int(ending.value.code or 0), capsys.readouterr().out

    return call


def test_the_recipe_is_built_in_each_precision_beside_what_is_served(run: Any) -> None:
    code, out = run("sweep", "m.toml", "--build", "--precisions", "fp32,fp16", *QUICK, "--json")
    assert code == 0
    record = json.loads(out)
    assert [point["label"] for point in record["points"] if not point["refused"]] == [
        f"{precision}, batch {batch}" for precision in ("fp32", "fp16") for batch in (1, 2)
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["m.onnx", "m.toml", "sweep-engines"]


def test_the_table_says_what_to_take_and_why_not_the_others(run: Any) -> None:
    assert run("build", "m.toml", "--precision", "fp32")[0] == 0
    code, out = run("sweep", "m", *QUICK, "--objective", "throughput")
    assert code == 0
    assert "recommended: fp32, batch" in out
    assert "samples_per_s" in out
    assert "not measured: energy" in out


def test_no_point_within_the_limits_is_status_1_after_the_table(run: Any) -> None:
    assert run("build", "m.toml", "--precision", "fp32")[0] == 0
    code, out = run("sweep", "m.toml", *QUICK, "--max-latency-ms", "0.000001", "--json")
    (record,) = map(json.loads, out.splitlines())
    assert (code, record["recommended"]) == (1, None)
    assert record["points"][0]["why_not"].startswith("p99_ms isn't known")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["m", "--build"], 2, "give the recipe"),
        (["m.toml", "--build", "--sweep-engines", "engines"], 2, "give another folder"),
        (["m.toml", "--html", "none/s.html"], 2, "give another name"),
        (["m"], 1, "no plan of model 'm'"),
        (["m", "--precisions", "fp8"], 78, "expected some of fp32, fp16, int8"),
        (["m", "--batches", "0"], 78, "from 1 on"),
        (["m", "--batches", "two"], 78, "batches.0"),
        (["m", "--objective", "beauty"], 78, "objective"),
        (["m", "--apply-power-modes"], 78, "leave --apply-power-modes out"),
        (["m", "--objective", "energy"], 1, "no plan of model"),
    ],
)
def test_what_cannot_be_is_said(run: Any, words: list[str], code: int, message: str) -> None:
    got, out = run("sweep", *words, "--json")
    assert (got, message in json.loads(out)["error"]["message"]) == (code, True)
