"""Connections that have shown no right yet: bounded in number, and no harm to those who go on."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from pathlib import Path
from typing import Any, Iterator

import grpc
import pytest
import trustme

from edge_runtime.server.newcomers import Newcomers, client_at, most_newcomers
from edge_runtime.wire.messages import SERVICE, message
from edge_runtime.wire.tokens import token_line

MOST = 8
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SILENCE = b""
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


class Connections:
    """Sockets whose other ends tell whether they were ended."""

    def __init__(self, closing: contextlib.ExitStack) -> None:
        self._closing = closing
        self.others: list[socket.socket] = []

    def made(self) -> socket.socket:
        mine, other = (self._closing.enter_context(each) for each in socket.socketpair())
        other.setblocking(False)
        self.others.append(other)
        return mine

    @property
    def ended(self) -> list[int]:
        """Which were ended, by the order in which they were made."""
        found = []
        for index, other in enumerate(self.others):
            with contextlib.suppress(BlockingIOError):
                assert other.recv(1) == b""
                found.append(index)
        return found


@pytest.fixture
def connections() -> Iterator[Connections]:
    with contextlib.ExitStack() as closing:
        yield Connections(closing)


def test_one_too_many_ends_the_oldest(connections) -> None:
    newcomers = Newcomers(3)
    assert [newcomers.begin(connections.made(), "192.0.2.1") for _ in range(5)] == [False] * 3 + [True] * 2
    assert connections.ended == [0, 1]


def test_those_of_an_address_with_many_end_before_those_of_another(connections) -> None:
    newcomers = Newcomers(3)
    for host in ("192.0.2.1", *["192.0.2.2"] * 5):
        newcomers.begin(connections.made(), host)
    assert connections.ended == [1, 2, 3]


def test_one_that_has_shown_its_right_makes_room(connections) -> None:
    newcomers = Newcomers(1)
    first = connections.made()
    newcomers.begin(first, "192.0.2.1")
    newcomers.end(first.fileno())
    newcomers.end(first.fileno())
    assert not newcomers.begin(connections.made(), "192.0.2.1")
    assert connections.ended == []


def test_one_that_was_closed_makes_room_too(connections) -> None:
    newcomers = Newcomers(1)
    first, second = connections.made(), connections.made()
    newcomers.begin(first, "192.0.2.1")
    first.close()
    assert not newcomers.begin(second, "192.0.2.1")
    newcomers.end(second.fileno())
    assert not newcomers.begin(connections.made(), "192.0.2.1")


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_client_has_a_whole_network_of_ipv6(host, client) -> None:
    assert client_at(host) == client


@pytest.mark.parametrize(("files", "most"), [(-1, 256), (20_000, 256), (1024, 256), (64, 16), (4, 1), (0, 1)])
def test_how_many_there_may_be_depends_on_how_many_files_there_may(files, most) -> None:
    assert most_newcomers(files) == most


@pytest.fixture(params=["own", "aiohttp"])
def secure(request, serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server with TLS at which only a few handshakes may be under way; `ca` is its authority."""
    monkeypatch.setattr("edge_runtime.server.access.most_newcomers", lambda: MOST)
    ca = trustme.CA()
    made = ca.issue_cert("127.0.0.1")
    (tmp_path / "server.pem").write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
    (tmp_path / "server.key").touch(mode=0o600)
    (tmp_path / "server.key").write_bytes(made.private_key_pem.bytes())
    files = {"tls_certificate": str(tmp_path / "server.pem"), "tls_key": str(tmp_path / "server.key")}
    with serving("identity", http_transport=request.param, **files) as server:
        server.ca = ca
        yield server


TOKEN = "token-for-inference"
WITH_TOKEN = LIVE.replace(b"Connection: close", b"Authorization: Bearer " + TOKEN.encode())
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


@pytest.fixture(params=["own", "aiohttp"])
def guarded(request, serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that asks for tokens, at which only a few connections may have shown none."""
    monkeypatch.setattr("edge_runtime.server.access.most_newcomers", lambda: MOST)
    (tmp_path / "tokens").write_text(token_line("robot", False, TOKEN))
    with serving("identity", http_transport=request.param, tokens=str(tmp_path / "tokens")) as server:
        yield server


def is_let_in(server: Any, connection: socket.socket) -> bool:
    """Whether a request with a token is answered, on a connection that stays."""
    connection.sendall(WITH_TOKEN)
    return [reply.status for reply in server.replies(connection, 1)] == [200]


@pytest.mark.parametrize(
    ("protocol", "begun"),
    [
        ("http", SILENCE),
        ("http", LIVE[:30]),
        ("http", LIVE.replace(b"Connection: close", b"Authorization: Bearer wrong")),
        ("grpc", SILENCE),
        ("grpc", PREFACE),
    ],
    ids=["http silence", "half a head", "a wrong token", "grpc silence", "a preface"],
)
def test_where_tokens_are_asked_for_a_connection_is_a_strangers_until_it_has_shown_one(
    guarded, protocol, begun
) -> None:
    host, port = getattr(guarded.bound, protocol).rsplit(":", 1)
    with contextlib.ExitStack() as closing:
        good = closing.enter_context(guarded.connection())
        assert is_let_in(guarded, good)
        strangers = []
        for _ in range(5 * MOST):
            strangers.append(closing.enter_context(socket.create_connection((host, int(port)), 20)))
            strangers[-1].sendall(begun)
        for stranger in strangers[: 4 * MOST]:
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(1 << 16):
                    pass
        assert is_let_in(guarded, good)
        with guarded.connection() as another:
            assert is_let_in(guarded, another)
        request = message("inference.ServerLiveRequest")().SerializeToString()
        channel = closing.enter_context(grpc.insecure_channel(guarded.bound.grpc))
        metadata = [("authorization", f"Bearer {TOKEN}")]
        assert channel.unary_unary(f"/{SERVICE}/ServerLive")(request, timeout=20, metadata=metadata)


def test_where_nobody_must_show_a_right_there_are_no_newcomers(serving, monkeypatch) -> None:
    monkeypatch.setattr("edge_runtime.server.access.most_newcomers", lambda: 1)
    with serving("identity") as server, contextlib.ExitStack() as closing:
        silent = [closing.enter_context(server.connection()) for _ in range(10)]
        assert all(is_let_in(server, each) for each in silent)


def is_http_live(server: Any) -> bool:
    context = ssl.create_default_context()
    server.ca.configure_trust(context)
    with server.connection() as tcp, context.wrap_socket(tcp, server_hostname="127.0.0.1") as connection:
        connection.sendall(LIVE)
        return connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


def is_grpc_live(server: Any) -> bool:
    credentials = grpc.ssl_channel_credentials(server.ca.cert_pem.bytes())
    with grpc.secure_channel(server.bound.grpc, credentials) as channel:
        request = message("inference.ServerLiveRequest")().SerializeToString()
        return bool(channel.unary_unary(f"/{SERVICE}/ServerLive")(request, timeout=20))


@pytest.mark.parametrize("begun", [SILENCE, HALF_A_HELLO], ids=["silence", "half a hello"])
@pytest.mark.parametrize(("protocol", "is_live"), [("http", is_http_live), ("grpc", is_grpc_live)])
def test_a_client_gets_in_beside_many_that_do_not_go_on(secure, caplog, protocol, is_live, begun) -> None:
    host, port = getattr(secure.bound, protocol).rsplit(":", 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with contextlib.ExitStack() as closing:
        strangers = []
        for _ in range(5 * MOST):
            stranger = closing.enter_context(socket.create_connection((host, int(port)), 20))
            stranger.sendall(begun)
            strangers.append(stranger)
        for stranger in strangers[: 4 * MOST]:
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        assert len(list(Path("/proc/self/fd").iterdir())) < before + len(strangers) + 2 * MOST  # those that end
        assert is_live(secure)
        strangers[-1].setblocking(False)
        with pytest.raises(BlockingIOError):  # the newest have their time still
            strangers[-1].recv(1)
    (line,) = (line for line in caplog.messages if "no right" in line)
    assert line == f"connections that had shown no right had to end: over {MOST} at once"


@contextlib.contextmanager
def without_collector() -> Iterator[Any]:
    """Counts TLS connections, each of which has 256 KiB, while cycles aren't collected: in a server they seldom are."""
    gc.collect()
    gc.disable()
    try:
        yield lambda: sum(isinstance(each, SSLProtocol) for each in gc.get_objects())
    finally:
        gc.enable()


def test_a_handshake_that_fails_is_freed_at_once(secure) -> None:
    host, port = secure.bound.http.rsplit(":", 1)
    with without_collector() as count:
        for _ in range(5 * MOST):
            with socket.create_connection((host, int(port)), 20) as stranger:
                stranger.sendall(b"no hello")
                while stranger.recv(100):
                    pass
        assert is_http_live(secure)
        assert count() <= 2


@pytest.mark.parametrize(("protocol", "begun"), [("http", LIVE), ("grpc", PREFACE)], ids=["http", "grpc"])
def test_a_connection_that_ends_is_freed_at_once(secure, protocol, begun) -> None:
    host, port = getattr(secure.bound, protocol).rsplit(":", 1)
    context = ssl.create_default_context()
    secure.ca.configure_trust(context)
    with without_collector() as count:
        for _ in range(5 * MOST):
            with socket.create_connection((host, int(port)), 20) as tcp, context.wrap_socket(
                tcp, server_hostname=host
            ) as connection:
                connection.sendall(begun)
                assert connection.recv(100)
        assert is_http_live(secure)
        assert count() <= MOST
