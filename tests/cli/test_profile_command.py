from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cli.main import main
from edge_runtime.errors import DataError

QUICK = ("-n", "80", "--warm-up", "12", "--board", "none")


@pytest.fixture
def profile(
    tmp_path: Path, classifier: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Builds a small plan and runs `profile` on it: exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(classifier)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ending:
            main(words)
        printed = capsys.readouterr()
        return int(ending.value.code or 0), printed.out, printed.err

    assert run("build", "m.onnx")[0] == 0
    return lambda *words: run("profile", "m", *words)


def test_a_person_reads_figures_stages_layers_and_the_board(profile: Any) -> None:
    code, out, _ = profile(*QUICK, "--layer-runs", "2")
    assert code == 0
    parts = ["profile m", "jitter p99/p50", "where the time goes", "slowest layers", "(1.5 x p50)", "power mode"]
    places = [out.index(part) for part in parts]
    assert places == sorted(places)
    assert "not measured: none: asked for" in out
    assert "next: p99: n too small (662 needed)" in out


def test_the_end_that_a_flag_gives_replaces_the_environments(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_PROFILE__N", "70")
    words = ("--duration-s", "0.05", "--warm-up", "2", "--board", "none", "--no-layers", "--json")
    code, out, _ = profile(*words)
    assert (code, json.loads(out)["settings"]["duration_s"]) == (0, 0.05)


def test_json_is_one_document_and_the_trace_has_its_calls(profile: Any) -> None:
    code, out, _ = profile(*QUICK, "--no-layers", "--rate", "2000", "--json", "--trace", "t.json")
    assert code == 0
    record = json.loads(out)
    assert (record["schema"], record["load"]["kind"]) == ("edge_runtime.profile/1", "poisson")
    trace = json.loads(Path("t.json").read_text())
    assert sum(event.get("cat") == "call" for event in trace["traceEvents"]) == record["load"]["completed"]
    assert trace["metadata"]["load"] == record["load"]


def test_a_file_that_can_not_be_written_at_the_end_costs_nobody_the_report(
    profile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DataError("no space left (made up)")

    monkeypatch.setattr("edge_runtime.cli.profile.write_output_file", full)
    code, out, _ = profile(*QUICK, "--no-layers", "--json", "--trace", "t.json")
    record, error = map(json.loads, out.splitlines())
    assert (code, record["schema"], error["error"]["message"][:8]) == (1, "edge_runtime.profile/1", "no space")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-n", "5", "--duration-s", "1"), 78, "both n (5) and duration_s (1)"),
        (("--rate", "0"), 78, "rate_per_s"),
        (("--rate", "nan"), 78, "rate_per_s"),
        (("--board", "guess"), 78, "expected one of auto"),
        (("--trace", "no/such/t.json"), 2, "isn't a folder that exists"),
        (("--html", "no/such/r.html"), 2, "isn't a folder that exists"),
        (("--html", "r.html", "--trace", "./r.html"), 2, "give each a name of its own"),
        (("--duration-s", "0.1", "--rate", "0.5", "--board", "none"), 78, "no call is due in that time"),
        (("--input", "missing.npz"), 1, "expected an .npz file"),
        (("--batch", "0"), 2, "--batch"),
        (("--batch", "4096"), 78, "batch 4096"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_measured(
    profile: Any, words: tuple[str, ...], code: int, message: str
) -> None:
    found, out, err = profile(*words)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
