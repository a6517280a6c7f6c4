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
    """Builds a small plan and runs `bench` on it: exit status and stdout."""
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(classifier)

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ending:
            main(words)
        return int(ending.value.code or 0), capsys.readouterr().out

    assert run("build", "m.onnx")[0] == 0
    return lambda *words: run("bench", "m", "-n", "5", "--warm-up", "1", *words)


def test_layers_are_a_table_in_execution_order_above_the_figures(bench: Any) -> None:
    code, out = bench("--layers", "--layer-runs", "2")
    assert code == 0
    assert out.index("layers of m, in execution order") < out.index("hidden, relu") < out.index("head")
    assert out.index("whole microseconds") < out.index("bench m")
    assert "time per layer" not in out


def test_layers_are_part_of_the_json_document(bench: Any) -> None:
    _, out = bench("--layers", "--layer-runs", "2", "--json")
    layers = json.loads(out)["layers"]
    assert [layer["nodes"] for layer in layers["layers"]] == [["hidden", "relu"], ["head"]]


def test_without_the_flag_layers_are_not_measured(bench: Any) -> None:
    assert "time per layer" in bench()[1]


def test_a_trace_is_written_and_the_environment_with_it(bench: Any) -> None:
    assert bench("--layers", "--layer-runs", "2", "--trace", "t.json")[0] == 0
    trace = json.loads(Path("t.json").read_text())
    assert {
        event["args"]["onnx_nodes"][-1] for event in trace["traceEvents"] if event.get("args", {}).get("onnx_nodes")
    }
    assert trace["metadata"]["environment"]["board"]
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["engines", "m.onnx", "t.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "--url", "http://127.0.0.1:1"], "can't see a server's layers"),
        (["--trace", "t.json"], "add --layers"),
        (["--layers", "--trace", "none/t.json"], "give another name"),
        (["--layers", "--trace", "engines"], "give another name"),
    ],
)
def test_what_cannot_be_had_is_a_usage_error_before_anything_is_measured(
    bench: Any, words: list[str], message: str
) -> None:
    code, out = bench(*words, "--json")
    assert code == 2
    assert message in json.loads(out)["error"]["message"]
