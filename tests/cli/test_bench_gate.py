from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cli.main import main


@pytest.fixture
def bench(
    tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Builds a small plan and runs `bench` on it: exit status and the JSON document."""
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(classifier)

    def run(*words: str) -> tuple[int, Any]:
        with pytest.raises(SystemExit) as ending:
            main((*words, "--json"))
        lines = capsys.readouterr().out.splitlines()
        return int(ending.value.code or 0), [json.loads(line) for line in lines]

    assert run("build", "m.onnx")[0] == 0
    return lambda *words: run("bench", "m", *words)


@pytest.fixture
def saved(bench: Any) -> dict[str, Any]:
    """A baseline in b.json, as it was read back."""
    code, (document,) = bench("-n", "80", "--warm-up", "1", "--threads", "1", "--save-baseline", "b.json")
    assert (code, document["baseline"]) == (0, {"file": "b.json", "sessions": 1})
    content: dict[str, Any] = json.loads(Path("b.json").read_text())
    return content


def rewrite(content: dict[str, Any], factor: float = 1.0, **conditions: Any) -> None:
    """The baseline with calls that took `factor` times as long (made up), under other conditions."""
    for repeat in content["sessions"][0]["repeats"]:
        repeat["durations_ns"] = [max(1, int(value * factor)) for value in repeat["durations_ns"]]
        repeat["yardstick_ns"] = [10**9] * len(repeat["durations_ns"])
    content["conditions"].update(conditions)
    Path("b.json").write_text(json.dumps(content))


def test_a_check_takes_over_what_the_baseline_was_measured_with(bench: Any, saved: dict[str, Any]) -> None:
    assert [len(repeat["durations_ns"]) for repeat in saved["sessions"][0]["repeats"]] == [10] * 8
    code, (document, *_) = bench("--check", "b.json", "--max-latency-pct", "1000", "--max-throughput-drop-pct", "99")
    assert code == 0
    found = document["regression"]
    assert [one["metric"] for one in found["metrics"]] == ["p50_ms", "p99_ms", "calls_per_s", "quality"]
    assert (document["settings"]["n"], document["settings"]["threads"], found["failed"]) == (80, 1, False)
    assert found["metrics"][1]["why"] == "n too small (80 of 662)"


def test_what_is_inconclusive_fails_only_if_that_is_asked_for(bench: Any, saved: dict[str, Any]) -> None:
    rewrite(saved)  # the yardstick was never as slow as that
    words = ("--check", "b.json", "--max-throughput-drop-pct", "99")
    assert bench(*words)[0] == 0
    code, (document,) = bench(*words, "--strict")
    assert (code, document["regression"]["failed"]) == (1, True)
    assert document["regression"]["verdict"] == "inconclusive"


def test_other_conditions_end_with_78_and_name_the_key(bench: Any, saved: dict[str, Any]) -> None:
    rewrite(saved, power_mode="15W")
    code, (error,) = bench("--check", "b.json")
    assert (code, error["error"]["type"]) == (78, "ConfigError")
    assert "power_mode: expected '15W', got unknown" in error["error"]["message"]
    assert bench("--check", "b.json", "--allow", "power_mode")[0] == 0


def test_given_settings_that_differ_are_other_conditions(bench: Any, saved: dict[str, Any]) -> None:
    code, (error,) = bench("--check", "b.json", "--batch", "2", "--concurrency", "2")
    assert code == 78
    assert "concurrency: expected 1, got 2 (give the same --concurrency)" in error["error"]["message"]
    assert "inputs: expected 'x FP32 1x4', got 'x FP32 2x4'" in error["error"]["message"]


def test_a_file_is_never_replaced_unasked(bench: Any, saved: dict[str, Any]) -> None:
    code, (error,) = bench("--save-baseline", "b.json")
    assert (code, json.loads(Path("b.json").read_text())) == (2, saved)
    assert "--extend adds a session to it, --replace begins anew" in error["error"]["message"]
    assert bench("--save-baseline", "b.json", "--extend")[1][0]["baseline"]["sessions"] == 2
    assert bench("-n", "9", "--save-baseline", "b.json", "--replace")[1][0]["baseline"]["sessions"] == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--save-baseline", "a.json", "--check", "b.json"], 2, "two runs"),
        (["--extend"], 2, "add it"),
        (["--allow", "board"], 2, "add it"),
        (["--save-baseline", "a.json", "--replace", "--extend"], 2, "two things"),
        (["--save-baseline", "none/a.json"], 2, "give another name"),
        (["--save-baseline", "a.json", "--extend"], 78, "no such file"),
        (["--check", "none.json"], 78, "make one"),
        (["--save-baseline", "a.json", "--repeats", "2"], 78, "needs 3 or more"),
        (["--check", "m.onnx"], 78, "save it anew"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_measured(
    bench: Any, words: list[str], code: int, message: str
) -> None:
    got, (error,) = bench(*words)
    assert (got, message in error["error"]["message"]) == (code, True)


def test_a_regression_ends_with_1_after_the_report(bench: Any) -> None:
    words = ("-n", "120", "--warm-up", "1", "--concurrency", "2", "--threads", "1")
    assert bench(*words, "--save-baseline", "b.json")[0] == 0
    content = json.loads(Path("b.json").read_text())
    for repeat in content["sessions"][0]["repeats"]:  # made up: a thousand times as fast then
        repeat["durations_ns"] = [max(1, value // 1000) for value in repeat["durations_ns"]]
    Path("b.json").write_text(json.dumps(content))
    code, (document,) = bench("--check", "b.json")
    assert (code, document["regression"]["verdict"], document["regression"]["failed"]) == (1, "regressed", True)
