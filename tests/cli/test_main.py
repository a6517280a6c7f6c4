from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime import __version__
from edge_runtime.cli.main import VERBS, main

CODE = "import sys; from edge_runtime.cli.main import main; main()"


def run(*words: str, code: str = CODE, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.mark.parametrize("verb", VERBS)
def test_help_loads_only_the_verb_asked_for_and_no_engine_library(verb: str) -> None:
    code = (
        "import sys; from edge_runtime.cli.main import main\n"
        "try: main()\n"
        "finally: sys.stderr.write(','.join(sorted(sys.modules)))"
    )
    done = run(verb, "--help", code=code)
    assert done.returncode == 0
    assert "Exit codes: 0 done, 1 failed, 2 usage, 75 busy, 78 configuration, 128 + N" in " ".join(done.stdout.split())
    assert "--json" in done.stdout
    loaded = set(done.stderr.split(","))
    assert not loaded & {"onnxruntime", "tensorrt", "tensorrt_rtx"}
    modules = {name: f"edge_runtime.cli.{name.replace('-', '_')}" for name in VERBS}
    assert set(modules.values()) & loaded == {modules[verb]}


def test_the_top_level_help_names_every_verb_and_loads_none() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)
    assert run("--version").stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("no-such-verb",), 2),
        (("build",), 2),
        (("build", "m.onnx", "--precision", "int4"), 2),
        (("build", "m.onnx", "--shape", "x"), 2),
        (("build", "m.onnx", "--shape", "x=1x2,3x4"), 2),
        (("build", "m.onnx", "--shape", "x=1", "--shape", "x=2"), 2),
        (("build", "m.onnx", "--max-batch", "0"), 2),
        (("build", "m.txt"), 2),
        (("build", "m.onnx", "--metric", "speed"), 2),
        (("build", "m.onnx", "--backend", "tpu"), 2),
        (("serve", "--log-level", "loud"), 2),
        (("bench", "m", "-n", "0"), 2),
        (("build", "absent.onnx"), 78),
        (("build", "absent.toml"), 78),
        (("serve",), 78),
        (("serve", "absent"), 1),
        (("inspect", "absent"), 1),
        (("inspect", "./" + "x" * 300), 1),
        (("build", "m" * 300 + ".onnx"), 78),
        (("bench", "absent"), 1),
    ],
)
def test_exit_codes(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_json_errors_are_one_document_on_stdout(tmp_path: Path) -> None:
    done = run("inspect", "absent", "--json", cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "PlanNotFoundError"
    assert "absent" in error["message"]


def test_wrong_usage_is_one_document_on_stdout_too(tmp_path: Path) -> None:
    done = run("build", "m.onnx", "--precision", "int4", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == "UsageError"


def test_main_takes_its_words_as_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"
