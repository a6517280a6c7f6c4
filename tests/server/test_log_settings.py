"""What is logged, seen and changed over the network, and what clients can make of the log."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator
from urllib.parse import quote

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

COMMAND = "from edge_runtime.cli.main import main; main()"
HOSTILE = "a\r\nERROR root: forged\x1b[2J\x00\u202e"
LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR) [a-z0-9_.]+: ")


@dataclass
class Started:
    """A server in a process of its own, without any model."""

    http: str
    grpc: str
    end: Callable[[], list[str]]


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Started]:
    """`end()` stops it, and gives the lines that it logged."""
    addresses = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json", "--model-control")
    command = [sys.executable, "-c", COMMAND, "serve", "--engines", str(folder), *addresses, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        logged: list[bytes] = []
        reader = threading.Thread(target=lambda: logged.append(process.stderr.read()))
        reader.start()

        def end() -> list[str]:
            process.terminate()
            assert process.wait(20) == 0
            reader.join(10)
            return logged[0].decode("utf-8").split("\n")[:-1]

        try:
            ready = json.loads(process.stdout.readline())
            yield Started(ready["http"], ready["grpc"], end)
        finally:
            process.kill()
            reader.join(10)


def triton(server: Started, kind: str) -> Any:
    module = triton_http if kind == "http" else triton_grpc
    return module.InferenceServerClient(getattr(server, kind))


def infer(client: Any, module: Any, name: str) -> None:
    x = module.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.zeros((1, 4), np.float32))
    with pytest.raises(InferenceServerException):
        client.infer(name, [x])


def plain(settings: Any) -> dict[str, Any]:
    """Settings as both of Triton's clients give them."""
    if isinstance(settings, dict):
        return settings
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in settings.settings.items()}


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_2_1_logging_tritons_clients_see_and_change_what_is_logged_and_it_is(tmp_path, kind):
    with started(tmp_path) as server:
        client = triton(server, kind)
        assert plain(client.get_log_settings()) == {
            "log_file": "",
            "log_info": False,
            "log_warning": True,
            "log_error": True,
            "log_verbose_level": 0,
            "log_format": "default",
        }
        infer(client, triton_http if kind == "http" else triton_grpc, "before")
        changed = plain(client.update_log_settings({"log_verbose_level": 1, "log_format": "ISO8601"}))
        assert (changed["log_verbose_level"], changed["log_format"], changed["log_info"]) == (1, "ISO8601", False)
        infer(client, triton_http if kind == "http" else triton_grpc, "after")
        with pytest.raises(InferenceServerException, match="log_file"):
            client.update_log_settings({"log_file": str(tmp_path / "log")})
        with pytest.raises(InferenceServerException, match="'log_colour'"):
            client.update_log_settings({"log_colour": True})
        client.close()
        lines = [line for line in server.end() if "unknown model" in line]
    assert len(lines) == 1
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z DEBUG .* unknown model 'after'", lines[0])
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_5_19_whatever_clients_say_each_line_of_the_log_is_one_of_ours(
    tmp_path, log_format, http_message, http_replies
):
    with started(tmp_path, "--log-level", "DEBUG", "--log-format", log_format) as server:
        client = triton_grpc.InferenceServerClient(server.grpc)
        for name in (HOSTILE, "n" * (1 << 20), HOSTILE * 10_000):
            infer(client, triton_grpc, name)
            with pytest.raises(InferenceServerException):
                client.load_model(name)
            with pytest.raises(InferenceServerException):
                client.update_log_settings({"log_format": name})
        client.close()
        host, _, port = server.http.partition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            for path in (quote(HOSTILE), quote(HOSTILE * 100), "%0d%0aERROR%20root:%20forged", "n" * 60_000):
                for data in (
                    http_message("GET", f"/v2/models/{path}"),
                    http_message("GET", f"/{path}", headers={"X-Name": "x\t\x85\xff"}),
                    http_message("POST", f"/v2/repository/models/{path}/load", b"{}"),
                    http_message("POST", "/v2/logging", json.dumps({HOSTILE: HOSTILE}).encode()),
                ):
                    connection.sendall(data)
                    assert 400 <= next(iter(http_replies(connection, 1))).status < 500
        lines = server.end()
    assert sum("refused with" in line for line in lines) == 9 + 16
    for line in lines:
        assert len(line.encode()) <= 4096
        assert line.isprintable()
        assert (json.loads(line)["level"] in LINE.pattern) if log_format == "json" else LINE.match(line)
        assert not line.startswith("ERROR")


def test_where_nothing_says_what_is_logged_it_is_not_there(server):
    assert server.ask("GET", "/v2/logging").status == 501
    assert "logging" not in server.ask("GET", "/v2").json["extensions"]
