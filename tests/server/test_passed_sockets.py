from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any, Iterator

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.server.addresses import check_access, check_free
from edge_runtime.server.passed_sockets import PassedSockets, passed_sockets
from edge_runtime.server.settings import ServerSettings

FIRST = 700  # descriptors that nobody else has


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Any]:
    """`listening(kind)`: a new socket of a kind."""
    made: list[socket.socket] = []

    def make(kind: str) -> socket.socket:
        family = {"unix": socket.AF_UNIX, "ipv6": socket.AF_INET6}.get(kind, socket.AF_INET)
        made.append(socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM))
        made[-1].bind(
            str(tmp_path / f"{len(made)}.sock") if kind == "unix" else ("::1" if kind == "ipv6" else "127.0.0.1", 0)
        )
        if kind not in ("udp", "deaf"):
            made[-1].listen(5)
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def passed(listening: Any) -> Iterator[Any]:
    """`passed(http="tcp", ...)`: what a process makes of sockets that it was started with."""
    found: list[PassedSockets] = []
    numbers: list[int] = []

    def take(names: str = "", **kinds: str) -> PassedSockets:
        for number, kind in enumerate(kinds.values(), FIRST):
            with listening(kind) as made:
                numbers.append(os.dup2(made.fileno(), number))
        environ = {"LISTEN_PID": "5", "LISTEN_FDS": str(len(kinds)), "LISTEN_FDNAMES": names or ":".join(kinds)}
        found.append(passed_sockets(environ, pid=5, first=FIRST))
        return found[-1]

    yield take
    for sockets in found:
        for each in sockets.by_name.values():
            each.close()
    for number in numbers:
        with contextlib.suppress(OSError):
            os.close(number)


def test_sockets_come_by_name_neither_blocking_nor_inherited(passed) -> None:
    found = passed(grpc="ipv6", unix="unix", http="tcp").by_name
    assert {name: each.family for name, each in found.items()} == {
        "grpc": socket.AF_INET6,
        "unix": socket.AF_UNIX,
        "http": socket.AF_INET,
    }
    assert not any(each.getblocking() or each.get_inheritable() for each in found.values())
    assert found["http"].proto == socket.IPPROTO_TCP


def test_their_addresses_replace_those_of_the_settings(passed) -> None:
    found = passed(http="tcp", unix="unix")
    settings = found.settings(ServerSettings(http="127.0.0.1:1"))
    port = found.by_name["http"].getsockname()[1]
    assert (settings.http, settings.grpc) == (f"127.0.0.1:{port}", "127.0.0.1:8001")
    assert settings.unix == found.by_name["unix"].getsockname()
    check_free(settings.model_copy(update={"grpc": "127.0.0.1:0"}), found.by_name)


def test_a_socket_that_others_reach_needs_what_an_address_needs(passed, monkeypatch) -> None:
    found = passed(http="tcp")
    monkeypatch.setattr("edge_runtime.server.passed_sockets._address", lambda _: "0.0.0.0:80")
    with pytest.raises(ConfigError, match="others reach it"):
        check_access(found.settings(ServerSettings()))


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "6", "LISTEN_FDS": "1"}])
def test_those_of_another_process_are_left_alone(environ: dict) -> None:
    assert not passed_sockets(environ, pid=5).by_name


@pytest.mark.parametrize(
    ("kinds", "names", "problem"),
    [
        ({"http": "unix"}, "", "'http' .*has the family AF_UNIX"),
        ({"unix": "tcp"}, "", "'unix' .*has the family AF_INET"),
        ({"grpc": "udp"}, "", "has the type SOCK_DGRAM"),
        ({"grpc": "deaf"}, "", "doesn't listen"),
        ({"http": "tcp"}, "edge-runtime.socket", "has the name 'edge-runtime.socket'"),
        ({"http": "tcp", "grpc": "tcp"}, "http:http", "is there twice"),
        ({"http": "tcp", "grpc": "tcp"}, "http", "has the name 'unknown'"),
    ],
)
def test_a_wrong_socket_is_a_configuration_error_that_says_how_to_mend_it(passed, kinds, names, problem) -> None:
    with pytest.raises(ConfigError, match=f"{problem}.*FileDescriptorName= http, grpc or unix"):
        passed(names, **kinds)


def test_a_descriptor_that_is_no_socket_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="isn't a socket"):
        passed_sockets({"LISTEN_PID": "5", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}, pid=5, first=FIRST)


@pytest.mark.parametrize("count", ["", "-1", " 1", "one", "99999999999"])
def test_a_count_that_is_none_is_a_configuration_error(count: str) -> None:
    with pytest.raises(ConfigError, match=f"LISTEN_FDS='{count}': expected a number of sockets"):
        passed_sockets({"LISTEN_PID": "5", "LISTEN_FDS": count}, pid=5, first=FIRST)


def test_grpcio_takes_over_no_socket(passed) -> None:
    with pytest.raises(ConfigError, match="use own"):
        passed(grpc="tcp").settings(ServerSettings(grpc_transport="grpcio"))


def test_a_server_answers_on_them(passed, serving) -> None:
    from edge_runtime.server.lifecycle import Control

    found = passed(http="tcp", unix="unix")
    path = Path(found.by_name["unix"].getsockname())
    with serving("identity", control=Control(sockets=found)) as server:
        assert server.bound.http == f"127.0.0.1:{found.by_name['http'].getsockname()[1]}"
        assert server.ask("GET", "/v2/health/ready").status == 200
        server.bound = server.bound.__class__(server.bound.http, server.bound.grpc, str(path))
        server.is_over_unix = True
        assert server.ask("GET", "/v2/health/ready").status == 200
    assert path.exists(), "it is the service manager's, which listens on"
