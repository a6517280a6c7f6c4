"""Signals, and what a process may lack: each ends in one line and an exit status, never in a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cli.interruption import Interrupted, interruptible

CODE = "from edge_runtime.cli.main import main; main()"
WORK = """
import os, signal, sys
import edge_runtime.provisioning.doctor as doctor
signal.signal(signal.SIGINT, signal.default_int_handler)  # these two are ignored if the tests run in the background
signal.signal(signal.SIGHUP, signal.SIG_DFL)
def diagnose(engines):
    try:
        os.kill(os.getpid(), signal.{name})
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # while it cleans up
        print("cleaned", file=sys.stderr)
doctor.diagnose = diagnose
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def run(*words: str, code: str = CODE, **options: Any) -> Any:
    options = {"stdout": subprocess.PIPE, **options}
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, check=False, env=environ, **options
    )


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_the_verb_clean_up_and_is_the_exit_status(number: signal.Signals) -> None:
    done = run("doctor", "--json", code=WORK.format(name=number.name) + CODE)
    assert done.returncode == 128 + number
    assert done.stderr.splitlines() == ["cleaned", f"edge-runtime: interrupted by {number.name}"]
    error = {"type": "Interrupted", "message": f"interrupted by {number.name}"}
    assert json.loads(done.stdout) == {"error": error}


def test_a_build_that_is_ended_publishes_nothing(tmp_path: Path, classifier: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(classifier)
    (tmp_path / "data.py").write_text("import os, signal\ndef samples():\n    os.kill(os.getpid(), signal.SIGTERM)\n")
    words = ("--calibration", "data:samples", "--held-out", "data:samples", "--precision", "int8", "--json")
    done = run("build", "m.onnx", *words, cwd=tmp_path)
    assert done.returncode == 143, done.stderr
    assert json.loads(done.stdout)["error"]["type"] == "Interrupted"
    assert not list(tmp_path.glob("engines/m/*"))


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.error is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(Interrupted, match="interrupted by SIGTERM"), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["--version"], ["inspect", "absent"]])
def test_a_full_disk_below_stdout_is_one_line(
    words: list, unbuffered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:  # noqa: PTH123  (the device that is always full)
        done = run(*words, stdout=full, cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert ("No space left on device" in done.stderr) == (words[0] != "inspect")


def test_a_closed_stdout_is_told_before_any_work(tmp_path: Path) -> None:
    done = run("doctor", stdout=None, cwd=tmp_path, preexec_fn=lambda: os.close(1))
    assert done.returncode == 1
    assert done.stderr.startswith("edge-runtime: standard output is closed")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["doctor"], ["build", "m.onnx"], ["calibrate", "m.onnx"]])
def test_a_current_folder_that_is_gone_is_one_line(words: list, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = run(*words, code="import os; os.rmdir(os.getcwd()); " + CODE, cwd=gone)
    assert done.returncode == 78
    assert done.stderr == "edge-runtime: the current folder was removed; change to one that is there\n"
