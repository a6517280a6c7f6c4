"""The ways on which a net is asked."""

from __future__ import annotations

from dataclasses import dataclass

HTTP, GRPC, UNIX = "HTTP", "gRPC", "HTTP, Unix socket"
CLIENT_HTTP, CLIENT_SHM = "own client, HTTP", "own client, shared memory"
WAYS = (HTTP, GRPC, UNIX, CLIENT_HTTP, CLIENT_SHM)


@dataclass(frozen=True)
class Target:
    """A server's address, HOST:PORT or a socket's path, on one way."""

    way: str
    address: str


class UnavailableError(Exception):
    """A server, tool or way that can't be measured here; the message says why."""
