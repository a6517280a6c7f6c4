from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from edge_runtime.server.clients import Owners, Peer, client_of, client_of_peer


class Transport:
    """What a transport says of a connection: made up for TCP, by a real socket otherwise."""

    def __init__(self, **extra: Any) -> None:
        self.get_extra_info = extra.get


@pytest.mark.parametrize(
    ("peername", "client"),
    [
        (("192.0.2.7", 4001), ("address", "192.0.2.7")),
        (("2001:db8::7", 4001, 0, 0), ("address", "2001:db8::7")),
        (("127.0.0.1", 4001), ("connection", "127.0.0.1", 4001)),
        (("127.8.8.8", 4001), ("connection", "127.8.8.8", 4001)),
        (("::1", 4001, 0, 0), ("connection", "::1", 4001)),
        (None, None),
    ],
)
def test_a_tcp_client_is_its_address_and_on_this_machine_its_connection(peername, client) -> None:
    assert client_of(Transport(peername=peername)) == client


@pytest.mark.parametrize(
    ("peer", "peername"),
    [
        ("ipv4:192.0.2.7:4001", ("192.0.2.7", 4001)),
        ("ipv4:127.0.0.1:4001", ("127.0.0.1", 4001)),
        ("ipv6:[::1]:4001", ("::1", 4001)),
        ("ipv6:%5B2001:db8::7%5D:4001", ("2001:db8::7", 4001)),
    ],
)
def test_grpcios_names_of_peers_give_the_same_clients(peer, peername) -> None:
    assert client_of_peer(peer) == client_of(Transport(peername=peername))


def test_grpcios_other_peers_are_clients_by_their_names() -> None:
    assert client_of_peer("unix:/run/s") == "unix:/run/s"


def test_a_client_of_a_unix_socket_is_its_process(tmp_path) -> None:
    connect = (
        f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect({str(tmp_path / 's')!r}); sys.stdin.read()"
    )
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        for _ in range(2):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "s"))
        ours = [client_of(Transport(socket=stack.enter_context(listener.accept()[0]))) for _ in range(2)]
        other = stack.enter_context(subprocess.Popen([sys.executable, "-c", connect], stdin=subprocess.PIPE))
        theirs = client_of(Transport(socket=stack.enter_context(listener.accept()[0])))
    assert ours == [("process", os.getuid(), os.getpid())] * 2
    assert theirs == ("process", os.getuid(), other.pid)


@pytest.mark.parametrize(
    ("own", "overflow", "owners"),
    [
        (1000, "65534\n", [0, 1000]),
        (65534, "65534\n", [0]),
        (65534, "65533\n", [0, 65534]),
        (0, "0\n", []),
        (65534, "", [0]),
    ],
)
def test_who_shows_as_the_overflow_user_is_never_the_owner(tmp_path, own, overflow, owners) -> None:
    (tmp_path / "overflowuid").write_text(overflow)
    found = Owners(own, tmp_path / "overflowuid")
    assert [uid for uid in (0, 1000, 65533, 65534) if found.have(Peer(1, uid, 1))] == owners


def test_without_proc_the_overflow_user_is_the_usual_one(tmp_path) -> None:
    assert not Owners(65534, tmp_path / "absent").have(Peer(1, 65534, 1))
