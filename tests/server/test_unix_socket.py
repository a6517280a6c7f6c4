from __future__ import annotations

import asyncio
import json
import socket
import stat
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edge_runtime.errors import ConfigError
from edge_runtime.server.lifecycle import Stop, serve
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.unix_socket import UnixListener

ROW = np.arange(4, dtype=np.float32)
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture
def connected(path: str):
    """`with connected() as connection`, to the server's socket."""

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(path)
        return connection

    return connect


def test_http_is_spoken_there(serving, path, connected, http_message, http_replies) -> None:
    with serving("identity", unix=path) as server, connected() as connection:
        connection.sendall(http_message("GET", "/v2/health/ready") * 2)
        assert [answer.status for answer in http_replies(connection, 2)] == [200, 200]
        assert server.bound.unix == path


def test_grpc_is_spoken_there(serving, path) -> None:
    message = service_pb2.ModelInferRequest(model_name="identity", raw_input_contents=[ROW.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with serving("identity", unix=path), grpc.insecure_channel(f"unix:{path}") as channel:
        answer = channel.unary_unary(METHOD)(message.SerializeToString(), timeout=10)
    assert service_pb2.ModelInferResponse.FromString(answer).raw_output_contents[0] == ROW.tobytes()


def test_who_speaks_is_found_out_from_the_first_bytes_however_they_come(
    serving, path, connected, http_message, http_replies
) -> None:
    with serving("identity", unix=path), connected() as connection:
        for byte in http_message("POST", "/v2/repository/index"):  # whose first byte HTTP/2's preface has too
            connection.sendall(bytes([byte]))
        assert next(http_replies(connection, 1)).status == 200


def test_a_client_that_says_nothing_does_not_hold_a_stop_up(serving, path, connected) -> None:
    with serving("identity", unix=path) as server, connected():
        server.signal()
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_the_socket_is_its_groups_and_gone_when_the_server_is(serving, path) -> None:
    with serving("identity", unix=path):
        mode = Path(path).stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)
    assert list(Path(path).parent.iterdir()) == []


def test_a_socket_that_a_dead_server_left_behind_is_taken_over(serving, path, connected, http_message, http_replies):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with serving("identity", unix=path), connected() as connection:
        connection.sendall(http_message("GET", "/v2"))
        assert next(http_replies(connection, 1)).status == 200


def test_a_socket_at_which_another_server_listens_is_left_alone(serving, path) -> None:
    with serving("identity", unix=path) as server:
        with pytest.raises(ConfigError, match="another server listens there"):
            UnixListener(path)
        assert Path(path).exists()
        assert server.ask("GET", "/v2").status == 200


async def attempt(settings):
    await serve([], settings, print, Stop(asyncio.Event(), asyncio.Event()))


def test_a_start_that_fails_leaves_the_socket_of_the_server_that_runs(
    serving, path, connected, http_message, http_replies
):
    with serving("identity", unix=path) as server:
        for addresses in ({}, {"grpc": server.bound.grpc}):
            settings = ServerSettings(**{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "unix": path, **addresses})
            with pytest.raises(ConfigError):
                asyncio.run(attempt(settings))
        with connected() as connection:
            connection.sendall(http_message("GET", "/v2"))
            assert next(http_replies(connection, 1)).status == 200


def test_a_socket_that_somebody_else_put_there_meanwhile_is_not_removed(path) -> None:
    listener = UnixListener(path)
    Path(path).rename(f"{path}.old")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        listener.close()
    listener.socket.close()
    assert Path(path).exists()


def test_two_that_start_at_once_do_not_both_get_the_path(path) -> None:
    first = UnixListener(path)
    Path(path).unlink()  # as if the other had looked before it was there
    with pytest.raises(ConfigError, match="another server listens there"):
        UnixListener(path)
    first.close()
    first.socket.close()
    second = UnixListener(path)
    second.close()
    second.socket.close()


def test_requests_behind_one_another_that_are_more_than_a_buffer_holds(
    serving, path, connected, http_message, http_replies, good_head
) -> None:
    text = json.dumps({**good_head(), "parameters": {"binary_data_output": True}}).encode()
    lengths = {"Inference-Header-Content-Length": str(len(text))}
    request = http_message("POST", "/v2/models/identity/infer", text + ROW.tobytes(), lengths)
    count = (200 << 10) // len(request)
    with serving("identity", unix=path), connected() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection.sendall(request * count)
        assert [reply.status for reply in http_replies(connection, count)] == [200] * count


@pytest.mark.parametrize("data", [b"", b"PRI * HT", b"\0"], ids=repr)
def test_a_client_that_does_not_say_what_it_speaks_is_dropped(serving, path, connected, data) -> None:
    with serving("identity", unix=path, idle_timeout_s=0.3), connected() as connection:
        connection.sendall(data)
        start = time.monotonic()
        connection.makefile("rb").read()
        assert 0.2 < time.monotonic() - start < 5


def test_a_file_that_is_no_socket_is_left_alone(path) -> None:
    Path(path).write_text("precious")
    with pytest.raises(ConfigError, match="something else is there"):
        UnixListener(path)
    assert Path(path).read_text() == "precious"


@pytest.mark.parametrize(
    ("place", "text"),
    [("none/s", "can't be bound"), ("x" * 200, "longer than 107 bytes"), ("a\0b", "longer than 107 bytes")],
    ids=["folder missing", "too long", "NUL"],
)
def test_a_path_that_can_not_be_bound_is_a_configuration_error(tmp_path: Path, place: str, text: str) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=text):
        UnixListener(f"{tmp_path}/{place}")
    assert sorted(tmp_path.iterdir()) == before
