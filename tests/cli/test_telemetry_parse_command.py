"""`edge-runtime telemetry parse` as a user has it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.tegrastats_data import OWN, items_of, own_lines

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-c", "from edge_runtime.cli.main import main; main()", "telemetry", "parse"]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


def run(*words, data=None, code=0, cwd=OWN):
    done = subprocess.run(
        [*COMMAND, *map(str, words)], input=data, capture_output=True, cwd=cwd, env=ENVIRON, check=False
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
    return done.stdout.decode(), done.stderr.decode()


def test_json_is_one_object_for_each_line_of_all_files():
    out, _ = run("lines.log", "-", "--json", data=b"noise\r\n" + own_lines()[0].encode() + b"\r\n")
    expected = [item["expect"] for item in items_of(OWN)]
    assert [json.loads(line) for line in out.splitlines()] == [*expected, None, expected[0]]


def test_a_summary_says_what_is_in_a_log(tmp_path):
    line = own_lines()[5].replace("06-18-2025 11:25:24 ", "")
    log = [f"06-18-2025 11:25:{second:02} {line}" for second in (1, 2, 3, 50)]
    (tmp_path / "a.log").write_text("\n".join(["date", *log, log[-1].replace("cpu@", "FOO 5 cpu@")]))
    out, _ = run("a.log", cwd=tmp_path)
    for text in ("6, of these 5 samples", "1: line 1", "FOO (1)", "perhaps Orin Nano 8GB", "before line 5"):
        assert text in out
    assert "mean 4,824.0 mW, 4,824 to 4,824 (input-rail VDD_IN)" in out
    assert "12.1 J over the printed steps, gaps left out" in out
    assert "50.25 C at tj" in out


def test_power_that_is_not_told_is_unknown(tmp_path):
    (tmp_path / "a.log").write_text("RAM 1/3964MB (lfb 1x4MB) CPU [1%@2,off] tj@5C\n")
    out, _ = run("a.log", cwd=tmp_path)
    assert "unknown: no rail" in out
    assert "(assumed: 1 s a sample, no stamps)" in out
    assert "1 in 1 samples" in out


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_log_without_a_sample_is_named_after_all_is_printed(flags):
    out, err = run("-", "lines.log", *flags, data=bytes(range(256)) * 20)
    assert "standard input: no line of tegrastats in it" in err
    assert "lines.log" in out or len(out.splitlines()) == 20 + 1 + len(own_lines())


@pytest.mark.parametrize("name", ["absent.log", ".", "x" * 300])
def test_a_file_that_cannot_be_read_is_named_before_anything_is_printed(name):
    out, err = run("lines.log", name, "--json", code=1)
    assert json.loads(out)["error"]["type"] == "TelemetryError"
    assert name in err


@pytest.mark.parametrize("words", [[], ["-", "-"]])
def test_wrong_usage(words):
    run(*words, code=2)


def test_a_closed_standard_input_is_said():
    command = " ".join(["exec", *(f"'{word}'" for word in COMMAND), "-", "<&-"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=ENVIRON, check=False)
    assert (done.returncode, b"standard input is closed" in done.stderr) == (1, True), done.stderr


def test_each_line_is_printed_as_it_comes_and_ctrl_c_ends():
    with subprocess.Popen(
        [*COMMAND, "-", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRON
    ) as process:
        for line, expected in ((own_lines()[0], items_of(OWN)[0]["expect"]), ("noise", None)):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == expected
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # Python loses one that comes while it frees an object
            process.wait(20)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"edge-runtime: interrupted by SIGINT\n"
        assert process.wait() == 130


def test_a_reader_that_goes_away_ends_it_in_silence(tmp_path):
    (tmp_path / "a.log").write_text("\n".join(own_lines() * 200))
    with subprocess.Popen(
        [*COMMAND, "a.log", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRON, cwd=tmp_path
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_help_of_the_group_names_every_command_and_loads_none():
    code = "import sys; from edge_runtime.cli.main import main\ntry: main()\nfinally: print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, "telemetry", "--help"], capture_output=True, text=True, env=ENVIRON, check=False
    )
    from edge_runtime.cli.telemetry import COMMANDS

    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)
    assert not any(f"telemetry_{name}" in done.stdout for name in COMMANDS)
