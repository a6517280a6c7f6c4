"""A server in a process of its own, with this test as its service manager."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from fakes.multiplying_plans import publish

MAIN = "from edge_runtime.cli.main import main; main()"
PASSING = "import os; os.dup2({number}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); " + MAIN


class Service:
    """A server that was started, and what it tells its manager."""

    def __init__(self, process: subprocess.Popen, receiver: socket.socket) -> None:
        self.process = process
        self._receiver = receiver
        self.told: list[dict[str, str]] = []

    def next(self, name: str) -> dict[str, str]:
        """The next message with a field; others are kept in `told`."""
        while True:
            fields = dict(line.split("=", 1) for line in self._receiver.recv(4096).decode().splitlines())
            self.told.append(fields)
            if name in fields:
                return fields

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """The exit status, and what it logged."""
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one plan, `m`."""
    publish(tmp_path / "engines", "m", 2)
    return tmp_path / "engines"


@pytest.fixture
def service(tmp_path: Path, store: Path) -> Iterator[Callable[..., Service]]:
    """`service(*arguments, environ=…, code=…)`: a server whose manager wants a sign of life each 600 ms."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, environ: Any = (), code: str = MAIN, **others: Any) -> Service:
            receiver = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            receiver.bind(str(tmp_path / "notify"))
            receiver.settimeout(60)
            variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000", **dict(environ)}
            addresses = () if others else ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
            command = [sys.executable, "-c", code, "serve", "--engines", str(store), "--board", "none", *addresses]
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, *arguments],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **variables},
                    **others,
                )
            )
            stack.callback(process.kill)
            return Service(process, receiver)

        yield start


def test_a_start_a_life_a_reload_and_an_end_are_told_in_order(service, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text("[server]\ndrain_s = 3\n")
    served = service("--config", str(config))
    first = served.next("STATUS")
    assert (first["STATUS"], "READY" in first) == ("loads m", False)
    assert int(first["EXTEND_TIMEOUT_USEC"]) > 60_000_000
    assert served.next("READY")["STATUS"] == "serves m 1 (fp32); 0 wait"
    for _ in range(3):
        served.next("WATCHDOG")
    config.write_text("[server]\ndrain_s = 4\nslots = 1\n[serving]\npriority = 1\n")
    served.signal(signal.SIGHUP)
    assert int(served.next("RELOADING")["MONOTONIC_USEC"]) > 0
    assert served.next("READY")["STATUS"].endswith("need a restart to hold: server.slots")
    config.write_text("[server]\ndrain_s = 5\nslot = 1\n")
    served.signal(signal.SIGHUP)
    served.next("RELOADING")
    assert "server.toml: [server]: unknown key 'slot'" in served.next("READY")["STATUS"]
    served.signal(signal.SIGTERM)
    assert served.next("STOPPING")["EXTEND_TIMEOUT_USEC"] == "9000000"
    status, log = served.ended()
    assert status == 0
    assert "settings that were changed need a restart to hold: server.slots" in log


@pytest.mark.slow
def test_an_idle_server_lives_by_golden_runs_that_no_statistics_count(service) -> None:
    served = service("--json")
    bound = json.loads(served.process.stdout.readline())
    served.next("READY")
    for _ in range(4):
        served.next("WATCHDOG")
    page = fetched(bound["http"], "/metrics")
    assert 'nv_inference_request_success{model="m",version="1"} 0' in page
    right = next(line for line in page.splitlines() if line.startswith("edge_runtime_golden_runs_total"))
    assert 'outcome="right"' in right
    assert int(right.split()[-1]) >= 3


@pytest.mark.slow
def test_a_wrong_setting_ends_with_78_before_anything_is_told(service, tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text("[server]\nhttp = '0.0.0.0:0'\n")
    served = service("--config", str(tmp_path / "server.toml"), pass_fds=())
    status, log = served.ended()
    assert status == 78
    assert "others reach it" in log


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("http", 0), ("unix", 78)])
def test_a_passed_socket_is_served_and_one_of_another_kind_ends_with_78(service, name: str, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = service(
            "--grpc",
            "127.0.0.1:0",
            environ={"LISTEN_FDS": "1", "LISTEN_FDNAMES": name},
            code=PASSING.format(number=listening.fileno()),
            pass_fds=[listening.fileno()],
        )
        if status:
            found, log = served.ended()
            assert found == status
            assert "FileDescriptorName=" in log
            return
        served.next("READY")
        assert fetched(f"127.0.0.1:{listening.getsockname()[1]}", "/v2/health/ready") == '{"ready": true}'


@pytest.mark.slow
def test_lines_have_priorities_where_stderr_is_the_journal(service, tmp_path: Path) -> None:
    read, write = os.pipe()
    end = os.fstat(write)
    served = service(
        environ={"JOURNAL_STREAM": f"{end.st_dev}:{end.st_ino}"},
        code=f"import os; os.dup2({write}, 2); {MAIN}",
        pass_fds=[write],
    )
    os.close(write)
    served.next("READY")
    with os.fdopen(read) as lines:
        assert lines.readline().startswith("<4>WARNING edge_runtime.cli.startup: not signed")


def fetched(address: str, path: str) -> str:
    """The body of what is there."""
    with contextlib.closing(HTTPConnection(address, timeout=20)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
