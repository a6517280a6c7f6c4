"""Whose requests come over a connection: told when it begins, and never from what the client says of itself."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any, Hashable, NamedTuple
from urllib.parse import unquote

from edge_runtime.server.addresses import is_loopback, tcp_address

_PEER = struct.Struct("3i")
_OVERFLOW_UID = 65534


class Peer(NamedTuple):
    """The kernel's `struct ucred`: the process that connected a Unix socket."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: Any) -> Peer:
    """Who connected to a Unix socket; pid 0 is a process that isn't visible from here, as of another container."""
    return Peer(*_PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)))


class Owners:
    """The users who may do on a Unix socket what the server's own user may: root, and that user.

    The kernel shows every user of another namespace who has no number in ours as one and the same, the overflow user
    (`nobody` on most systems): who shows as that one may be anybody, also where the server runs as it.
    """

    def __init__(self, own: int | None = None, overflow: Path = Path("/proc/sys/kernel/overflowuid")) -> None:
        self._users = {0, os.geteuid() if own is None else own} - {_number_in(overflow)}

    def have(self, peer: Peer) -> bool:
        """Whether a peer is one of them."""
        return peer.uid in self._users


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return _OVERFLOW_UID


def client_of(transport: Any) -> Hashable:
    """The client at the other end of a connection that was just accepted: equal for connections of one client.

    On a Unix socket it is the process. On TCP it is the address, but for this machine's own: nothing tells its
    processes apart, so there each connection is a client.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        peer = peer_of(connection)
        return "process", peer.uid, peer.pid
    name = transport.get_extra_info("peername")
    return _client_at(name[0], name[1]) if name else None


def client_of_peer(peer: str) -> Hashable:
    """The same by grpcio's name of a call's peer, such as `ipv4:127.0.0.1:41234`."""
    kind, _, address = unquote(peer).partition(":")
    return _client_at(*tcp_address(address, "peer")) if kind in ("ipv4", "ipv6") else peer


def _client_at(host: str, port: int) -> Hashable:
    return ("connection", host, port) if is_loopback(host) else ("address", host)
