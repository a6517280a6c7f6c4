"""SIGHUP of a server, which must do no harm while it starts: real processes, with an empty store."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Iterator

import pytest

from edge_runtime.wire.tokens import token_line

LOADING = """
import contextlib, fcntl, os, signal, sys, termios
import edge_runtime.cli.startup as startup
signal.signal(signal.SIGHUP, signal.{before})
{terminal}
loading = startup.loading
@contextlib.contextmanager
def interrupted(*arguments):
    with loading(*arguments) as engines:
        os.kill(os.getpid(), signal.SIGHUP)
        yield engines
startup.loading = interrupted
from edge_runtime.cli.main import main; main()
"""
TERMINAL = "fcntl.ioctl(0, termios.TIOCSCTTY, 0)"


@contextlib.contextmanager
def loading(*arguments: str, before: str = "SIG_DFL", terminal: int | None = None) -> Iterator[Any]:
    """A server that gets SIGHUP while it loads, in a session of its own, which may have a terminal."""
    code = LOADING.format(before=before, terminal="" if terminal is None else TERMINAL)
    command = [sys.executable, "-c", code, "serve", "--model-control", "--json", "--log-level", "INFO"]
    with subprocess.Popen(
        [*command, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *arguments],
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens").write_text(token_line("robot", False, "before"))
    return tmp_path / "tokens"


def is_let_in(ready: Any, token: str) -> bool:
    host, port = ready["http"].rsplit(":", 1)
    with contextlib.closing(HTTPConnection(host, int(port), timeout=20)) as connection:
        connection.request("GET", "/v2", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status == 200


def read_anew(process: Any) -> None:
    """Returns when the server has said that it has read its files anew."""
    while "read anew" not in process.stderr.readline():
        assert process.poll() is None


@pytest.mark.parametrize("before", ["SIG_DFL", "SIG_IGN"])
def test_a_server_with_tokens_goes_on_loading_and_reads_them_anew_later(tokens: Path, before: str) -> None:
    with loading("--tokens", str(tokens), before=before) as process:
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        assert is_let_in(ready, "before")
        if before == "SIG_DFL":  # what came while it loaded is done when it is ready
            read_anew(process)
        tokens.write_text(token_line("robot", False, "after"))
        process.send_signal(signal.SIGHUP)
        read_anew(process)
        assert is_let_in(ready, "after")
        process.terminate()
        assert process.wait(20) == 0


def test_a_server_without_files_to_read_anew_ignores_it(tokens: Path) -> None:
    with loading() as process:
        ready = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGHUP)
        assert is_let_in(ready, "none is asked for")
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("arguments", [(), ("--tokens", "tokens")], ids=["no tokens", "tokens"])
def test_at_a_terminal_it_ends_a_server_without_such_files(tokens: Path, arguments: tuple[str, ...]) -> None:
    near, far = pty.openpty()
    try:
        with loading(*arguments, terminal=far) as process:
            line = process.stdout.readline()
            if arguments:
                assert json.loads(line)["event"] == "ready"
            else:
                assert process.wait(20) == -signal.SIGHUP
    finally:
        os.close(near)
        os.close(far)
