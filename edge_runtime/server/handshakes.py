"""TLS handshakes that are under way at one address: only so many, whatever strangers begin and don't go on with."""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import socket
from typing import Dict

_MOST = 256
_SHARE = 8  # of the files that the process may open: HTTP and gRPC have a quarter of them together
_IPV6_PREFIX = 64  # a client has all addresses of one

Address = str


class Handshakes:
    """Knows the connections whose handshake isn't done; one too many ends the oldest of the client that has most.

    So a client with many ends none but its own, and even among those one that goes on gets through, unless `most`
    others begin meanwhile. A client is an address here, or the network that it has.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_client: Dict[Address, Dict[socket.socket, None]] = {}
        self._clients: Dict[socket.socket, Address] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._clients)

    def begin(self, connection: socket.socket, host: str) -> bool:
        """Takes in a connection from `host`; whether another had to be ended for it."""
        client = client_at(host)
        self._clients[connection] = client
        self._by_client.setdefault(client, {})[connection] = None
        if len(self._clients) <= self._most:
            return False
        largest = max(self._by_client.values(), key=len)
        oldest = next(iter(largest))
        self.end(oldest)
        with contextlib.suppress(OSError):  # it is gone already
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def end(self, connection: socket.socket) -> None:
        """Forgets a connection, whose handshake is done or failed; idempotent."""
        client = self._clients.pop(connection, None)
        if client is None:
            return
        theirs = self._by_client[client]
        del theirs[connection]
        if not theirs:
            del self._by_client[client]


def most_handshakes(files: int | None = None) -> int:
    """How many may be under way at one address in a process that may open so many files."""
    if files is None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(1, min(_MOST, files // _SHARE))


def client_at(host: str) -> Address:
    """What one client has of the network: its IPv4 address, or the IPv6 network that its address is of."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], _IPV6_PREFIX), strict=False))
