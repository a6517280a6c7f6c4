"""Connections that have shown no right yet: only so many, whatever strangers begin and don't go on with."""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import socket
from typing import Dict, Tuple

_MOST = 256
_SHARE = 4  # of the files that the process may open
_IPV6_PREFIX = 64  # a client has all addresses of one

Address = str


class Newcomers:
    """Knows the connections that have shown no right; one too many ends the oldest of the client that has most.

    So a client with many ends none but its own, and even among those one that goes on gets through, unless `most`
    others begin meanwhile. A client is an address here, or the network that it has.

    Attributes:
        need_tokens: whether a request with a token is what shows a right. Otherwise a TLS handshake does, and without
            TLS nobody is a newcomer.
    """

    def __init__(self, most: int, need_tokens: bool = False) -> None:
        self.most = most
        self.need_tokens = need_tokens
        self._known: Dict[int, Tuple[socket.socket, Address]] = {}  # by file descriptor
        self._by_client: Dict[Address, Dict[int, None]] = {}

    def begin(self, connection: socket.socket, host: str) -> bool:
        """Takes in a connection from `host`; whether another had to be ended for it."""
        number, client = connection.fileno(), client_at(host)
        self.end(number)  # of one that was closed
        self._known[number] = connection, client
        self._by_client.setdefault(client, {})[number] = None
        if len(self._known) <= self.most:
            return False
        self._forget_closed()
        if len(self._known) <= self.most:
            return False
        most = max(self._by_client, key=lambda each: len(self._by_client[each]))
        number = next(iter(self._by_client[most]))
        oldest, _ = self._known[number]
        self.end(number)
        with contextlib.suppress(OSError):  # it is gone already
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def end(self, number: int) -> None:
        """Says that the connection with this file descriptor has shown its right; idempotent."""
        known = self._known.pop(number, None)
        if known is None:
            return
        theirs = self._by_client[known[1]]
        del theirs[number]
        if not theirs:
            del self._by_client[known[1]]

    def _forget_closed(self) -> None:
        for number, (connection, _) in list(self._known.items()):
            if connection.fileno() < 0:
                self.end(number)


def most_newcomers(files: int | None = None) -> int:
    """How many there may be in a process that may open so many files."""
    if files is None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(1, min(_MOST, files // _SHARE))


def client_at(host: str) -> Address:
    """What one client has of the network: its IPv4 address, or the IPv6 network that its address is of."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], _IPV6_PREFIX), strict=False))
