"""Tokens, TLS and clients' certificates: one check before routing, for every route and every method."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import socket
from pathlib import Path
from typing import Any, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from fakes.http2_client import DATA, END_STREAM, RawClient, fields, frame, head
from fakes.http2_client import message as grpc_message

from edge_runtime.errors import ConfigError
from edge_runtime.server.access import Access, Visitor
from edge_runtime.server.lifecycle import Control
from edge_runtime.server.models import ModelTable
from edge_runtime.server.routes import HttpRoutes
from edge_runtime.wire.messages import HEALTH_SERVICE, SERVICE, message, methods
from edge_runtime.wire.tokens import token_line

INFER, ADMIN = "token-for-inference", "token-for-administration"
RPCS = [(service, name, request) for service in (SERVICE, HEALTH_SERVICE) for name, request, _ in methods(service)]
TRANSPORTS = [
    pytest.param({}, id="own"),
    pytest.param({"http_transport": "aiohttp", "grpc_transport": "grpcio"}, id="libraries"),
]


def paths() -> list[tuple[str, str]]:
    """Method and path of every route, as the router has them, and some that it hasn't."""
    names = {"model": "identity", "version": "3", "region": "r"}
    found = []
    for method, pattern, _ in HttpRoutes(ModelTable([]))._routes:
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda match: names[match[1]], pattern.pattern)
        for part in ("(?:/versions/3)?", "(?:/region/r)?"):
            path = path.replace(part, "")
        path = path.replace("/?", "").replace("(?:/.*)?", "")
        path = re.sub(r"\(\?:([^|)]*)\|[^)]*\)", r"\1", path)
        found.append((method, f"/{path}"))
    return [*found, ("GET", "/"), ("GET", "/no/such/path"), ("PUT", "/v2"), ("HEAD", "/v2"), ("GET", "http://x/v2")]


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{token_line('robot', False, INFER)}\n{token_line('ops', True, ADMIN)}\n")
    return path


@pytest.fixture(scope="module", params=TRANSPORTS)
def guarded(request: pytest.FixtureRequest, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("guarded")
    path = folder / "tokens"
    path.write_text(f"{token_line('robot', False, INFER)}\n{token_line('ops', True, ADMIN)}\n")
    with serving("identity", tokens=str(path), unix=str(folder / "socket"), **request.param) as server:
        server.path = str(folder / "socket")
        yield server


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def called(address: str, service: str, name: str, request: Any, token: str | None = None) -> str:
    """Name of the status that a call ends in."""
    metadata = None if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(f"/{service}/{name}")(request.SerializeToString(), timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


@pytest.mark.parametrize(("method", "path"), paths())
@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"Authorization": f"Basic {INFER}"}])
def test_5_17_every_route_without_a_token_is_401(guarded: Any, method: str, path: str, headers: dict) -> None:
    reply = guarded.ask(method, path, headers=headers)
    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")
    if method != "HEAD":
        assert reply.json == {"error": "a valid token is needed: Authorization: Bearer TOKEN"}


@pytest.mark.parametrize(("service", "name", "request_class"), RPCS)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_5_17_every_method_without_a_token_is_unauthenticated(
    guarded: Any, service: str, name: str, request_class: Any, token: str | None
) -> None:
    assert called(guarded.bound.grpc, service, name, request_class(), token) == "UNAUTHENTICATED"


def test_5_17_methods_that_are_not_there_need_a_token_too(guarded: Any) -> None:
    request = message("inference.ServerLiveRequest")()
    assert called(guarded.bound.grpc, "no.Such", "Method", request) == "UNAUTHENTICATED"
    assert called(guarded.bound.grpc, "no.Such", "Method", request, INFER) == "UNIMPLEMENTED"


def test_3_3_a_token_lets_in(guarded: Any) -> None:
    assert guarded.ask("GET", "/v2/health/ready", headers=bearer(INFER)).status == 200
    request = message("inference.ServerReadyRequest")()
    assert called(guarded.bound.grpc, SERVICE, "ServerReady", request, INFER) == "OK"


def test_3_3_tritons_clients_pass_tokens_by_headers(guarded: Any) -> None:
    x = triton_grpc.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.ones((1, 4), np.float32))
    with contextlib.closing(triton_grpc.InferenceServerClient(guarded.bound.grpc)) as client:
        answer = client.infer("identity", [x], headers={"authorization": f"Bearer {INFER}"})
    assert answer.as_numpy("y").tolist() == [[1, 1, 1, 1]]


def test_3_3_two_authorizations_are_no_request(guarded: Any) -> None:
    head = f"GET /v2 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {INFER}\r\nAuthorization: Bearer x\r\n\r\n"
    assert guarded.exchange(head.encode())[0].status == 400


def test_the_connection_of_a_request_without_a_token_is_closed(guarded: Any, http_message: Any) -> None:
    request = http_message("GET", "/v2")
    assert [reply.status for reply in guarded.exchange(request + request, 2)] == [401]


def test_3_3_a_call_with_two_authorizations_has_none(guarded: Any) -> None:
    request = message("inference.ServerReadyRequest")().SerializeToString()
    metadata = [("authorization", f"Bearer {INFER}")] * 2
    with grpc.insecure_channel(guarded.bound.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/ServerReady")(request, timeout=10, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_1_2_one_gate_the_same_head_is_not_let_in_by_what_came_before_it(guarded: Any, http_message: Any) -> None:
    first = http_message("GET", "/v2", headers=bearer(INFER))
    second = http_message("GET", "/v2")
    assert [reply.status for reply in guarded.exchange(first + second, 2)] == [200, 401]


def test_1_2_one_gate_no_body_is_waited_for_before_the_token_is_checked(guarded: Any) -> None:
    head = "POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
    assert guarded.exchange(head.encode())[0].status == 401


def test_counts_of_a_model_do_not_have_strangers(guarded: Any) -> None:
    before = guarded.ask("GET", "/v2/models/identity/stats", headers=bearer(INFER)).json
    guarded.infer("identity", {"inputs": []})
    assert guarded.ask("GET", "/v2/models/identity/stats", headers=bearer(INFER)).json == before


@pytest.mark.parametrize(
    "path", ["/v2/repository/models/identity/unload", "//v2/repository/models/x/load?a=b", "/v2/logging"]
)
def test_3_3_administration_needs_a_token_of_its_own(guarded: Any, path: str) -> None:
    assert guarded.ask("POST", path, headers=bearer(INFER)).status == 403
    assert guarded.ask("POST", path, b"{}", headers=bearer(ADMIN)).status != 401


@pytest.mark.parametrize("name", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_3_3_methods_that_administer_need_it_too(guarded: Any, name: str) -> None:
    request = message(f"inference.{name}Request")()
    assert called(guarded.bound.grpc, SERVICE, name, request, INFER) == "PERMISSION_DENIED"


class FakeLog:
    """Settings that are kept, whatever they are."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {"log_info": False, "log_verbose_level": 0}

    def settings(self) -> dict[str, Any]:
        return dict(self.kept)

    def change(self, settings: Any) -> None:
        self.kept.update(settings)


def log_settings(address: str, token: str | None, request: bytes) -> Any:
    """The settings that a call gives, or the name of its status."""
    metadata = None if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(address) as channel:
        try:
            reply = channel.unary_unary(f"/{SERVICE}/LogSettings")(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name
    settings = message("inference.LogSettingsResponse").FromString(reply).settings
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in settings.items()}


def changed_settings() -> bytes:
    request = message("inference.LogSettingsRequest")()
    request.settings["log_info"].bool_param = True
    return request.SerializeToString()


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture(params=TRANSPORTS)
def logging_server(request: pytest.FixtureRequest, serving: Any, tokens: Path, log: FakeLog) -> Iterator[Any]:
    """A server whose log may be changed by who shows the right token."""
    unix = str(tokens.parent / "socket")
    with serving("identity", tokens=str(tokens), unix=unix, control=Control(log=log), **request.param) as server:
        yield server


def test_3_3_what_is_logged_may_be_read_by_all_who_may_use_the_server(logging_server: Any, log: FakeLog) -> None:
    assert logging_server.ask("GET", "/v2/logging", headers=bearer(INFER)).json == log.kept
    assert log_settings(logging_server.bound.grpc, INFER, b"") == log.kept
    assert logging_server.ask("GET", "/v2/logging").status == 401
    assert log_settings(logging_server.bound.grpc, None, b"") == "UNAUTHENTICATED"


def test_3_3_what_is_logged_is_changed_by_administrators_alone(logging_server: Any, log: FakeLog) -> None:
    body, before = b'{"log_info": true}', dict(log.kept)
    for token in (INFER, None):
        status, code = (401, "UNAUTHENTICATED") if token is None else (403, "PERMISSION_DENIED")
        headers = {} if token is None else bearer(token)
        assert logging_server.ask("POST", "/v2/logging", body, headers).status == status
        assert log_settings(logging_server.bound.grpc, token, changed_settings()) == code
    assert log.kept == before
    assert (
        log_settings(logging_server.bound.grpc, ADMIN, changed_settings()) == log.kept == {**before, "log_info": True}
    )
    log.kept = dict(before)
    assert logging_server.ask("POST", "/v2/logging", body, bearer(ADMIN)).json == log.kept != before


@pytest.mark.parametrize("request_bytes", [b"\x0a\x00", b"\x0a\x03\x0a\x01x", b"\x12\x00", b"\xff", bytes(1 << 20)])
def test_3_3_all_but_the_empty_message_is_the_administrators(
    logging_server: Any, log: FakeLog, request_bytes: bytes
) -> None:
    before = dict(log.kept)
    assert log_settings(logging_server.bound.grpc, INFER, request_bytes) == "PERMISSION_DENIED"
    assert log.kept == before


def test_3_3_who_is_refused_a_change_of_the_log_is_counted(logging_server: Any) -> None:
    log_settings(logging_server.bound.grpc, INFER, b"")
    log_settings(logging_server.bound.grpc, INFER, changed_settings())
    page = logging_server.ask("GET", "/metrics", headers=bearer(INFER)).body.decode()
    assert 'edge_runtime_access_refused{reason="PERMISSION_DENIED"} 1' in page


def test_3_3_on_the_unix_socket_the_servers_user_changes_what_is_logged(logging_server: Any, log: FakeLog) -> None:
    assert log_settings(f"unix:{logging_server.bound.unix}", None, changed_settings()) == log.kept
    assert log.kept["log_info"] is True


@pytest.mark.parametrize("is_owner", [False, True])
def test_3_3_others_on_the_unix_socket_only_read_what_is_logged(
    serving: Any, tmp_path: Path, log: FakeLog, monkeypatch: pytest.MonkeyPatch, is_owner: bool
) -> None:
    monkeypatch.setattr(Access, "visitor", lambda access, _: Visitor(access, True, is_owner))
    with serving("identity", unix=str(tmp_path / "socket"), control=Control(log=log)) as server:
        address = f"unix:{server.bound.unix}"
        assert log_settings(address, None, b"") == {"log_info": False, "log_verbose_level": 0}
        found = log_settings(address, None, changed_settings())
    assert (found == "PERMISSION_DENIED", log.kept["log_info"]) == (not is_owner, is_owner)


def test_3_3_a_right_that_was_taken_back_before_the_message_came_is_gone(
    serving: Any, tokens: Path, log: FakeLog
) -> None:
    path = f"/{SERVICE}/LogSettings"
    authorized = [*fields(path), ("authorization", f"Bearer {ADMIN}")]
    with serving("identity", tokens=str(tokens), control=Control(log=log)) as server:
        host, _, port = server.bound.grpc.rpartition(":")
        with RawClient((host, int(port))) as client:
            client.send(head(1, authorized))
            client.settled()
            tokens.write_text(f"{token_line('ops', False, ADMIN)}\n")
            server.reload()
            client.send(frame(DATA, END_STREAM, 1, grpc_message(changed_settings())))
            assert client.answer(1).status == str(grpc.StatusCode.PERMISSION_DENIED.value[0])
    assert log.kept["log_info"] is False


def test_3_3_the_unix_socket_needs_no_token(guarded: Any, http_message: Any, http_replies: Any) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(guarded.path)
        connection.sendall(http_message("GET", "/v2/health/ready"))
        assert next(iter(http_replies(connection, 1))).status == 200
    request = message("inference.ServerReadyRequest")()
    assert called(f"unix:{guarded.path}", SERVICE, "ServerReady", request) == "OK"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda path: path.chmod(0o666), "others than its owner may write"),
        (lambda path: path.unlink(), "can't be read"),
        (lambda path: path.write_bytes(b"\xff"), "isn't text"),
        (lambda path: path.write_text("#" * (2 << 20)), "over 1048576 bytes"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used_is_refused(tokens: Path, change: Any, match: str) -> None:
    change(tokens)
    with pytest.raises(ConfigError, match=match):
        Access(tokens)


def test_the_metrics_count_who_was_refused_access(guarded: Any) -> None:
    def refused() -> dict[str, int]:
        page = guarded.ask("GET", "/metrics", headers=bearer(INFER)).body.decode()
        return {
            line.split('"')[1]: int(line.split()[-1])
            for line in page.splitlines()
            if line.startswith("edge_runtime_access_refused{")
        }

    before = refused()
    guarded.ask("GET", "/v2")
    guarded.ask("POST", "/v2/repository/models/x/load", headers=bearer(INFER))
    assert refused() == {reason: count + 1 for reason, count in before.items()}


def test_who_shows_a_token_is_one_client_over_all_connections(tokens: Path) -> None:
    access = Access(tokens)
    remote = Visitor(access, is_local=False, is_owner=False)
    assert remote.check(f"Bearer {INFER}".encode(), False) == ("token", "robot")
    local = Visitor(access, is_local=True, is_owner=False)
    assert local.check(None, False) is None
    assert Visitor(Access(), is_local=False, is_owner=False).check(None, False) is None


@pytest.mark.parametrize("transport", ["own", "grpcio"])
def test_a_stream_ends_when_its_token_is_taken_back(serving: Any, tokens: Path, transport: str) -> None:
    asked: queue.Queue[Any] = queue.Queue()
    request = message("inference.ModelInferRequest")(model_name="none").SerializeToString()
    with serving("identity", tokens=str(tokens), grpc_transport=transport) as server, grpc.insecure_channel(
        server.bound.grpc
    ) as channel:
        answers = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(
            iter(asked.get, None), metadata=[("authorization", f"Bearer {INFER}")], timeout=20
        )
        asked.put(request)
        assert b"unknown model" in next(answers)
        tokens.write_text(f"{token_line('ops', True, ADMIN)}\n")
        server.reload()
        asked.put(request)
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)
        asked.put(None)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("settings", TRANSPORTS)
@pytest.mark.parametrize(
    "path", ["/v2/repository/models/identity/unload", "/v2/logging", "/v2/systemsharedmemory/region/r/register"]
)
def test_3_3_a_web_page_changes_nothing_on_loopback(serving: Any, settings: dict, path: str) -> None:
    with serving("identity", allow_client_shm=True, **settings) as server:
        page = {"Origin": "http://evil.example", "Content-Type": "text/plain", "Host": "evil.example"}
        reply = server.ask("POST", path, b"{}", page)
        assert (reply.status, "web pages" in reply.json["error"]) == (403, True)
        assert "web pages" not in str(server.ask("POST", path, b"{}").json)
        assert server.infer("identity", {"inputs": []}, headers=page).status == 400


def test_a_fifo_of_tokens_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="regular file"):
        Access(tmp_path / "fifo")
