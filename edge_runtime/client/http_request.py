"""HTTP/1.1 requests as bytes; the same for blocking sockets and for asyncio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from edge_runtime.client.address import Address
from edge_runtime.client.http_answer import UnsoundError
from edge_runtime.errors import DeadlineExpiredError, RemoteError, ServerUnavailableError


@dataclass(frozen=True)
class HttpRequest:
    """A request; `body` is sent piece by piece, uncopied.

    Attributes:
        headers: beside those that every request has.
        head: all that goes before the body, if it was made already.
        limit_s: how long the exchange may take in all; None: as long as bytes come.
    """

    method: str
    path: str
    body: Sequence[Any] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    head: bytes | None = None
    limit_s: float | None = None


def head_bytes(request: HttpRequest, address: Address) -> bytes:
    """What goes before a request's body."""
    headers = {"Host": address.authority, "Accept-Encoding": "identity", **request.headers}
    if address.credentials.authorization is not None:
        headers["Authorization"] = address.credentials.authorization
    if request.method == "POST":
        headers["Content-Length"] = str(sum(map(len, request.body)))
    lines = [f"{request.method} {address.path}{request.path} HTTP/1.1", *map(": ".join, headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def closed_error(server: object) -> ServerUnavailableError:
    """The error for the use of a closed client."""
    return ServerUnavailableError(f"{server}: this client is closed; make a new one")


def unanswered_error(server: object) -> ServerUnavailableError:
    """The error for a connection that the server closed before any byte of an answer."""
    return ServerUnavailableError(f"{server}: the server closed the connection unanswered")


def late_error(server: object, timeout_s: float, limit_s: float | None) -> ServerUnavailableError:
    """The error for an answer that didn't come in time: in the request's own, if it has a limit."""
    if limit_s is not None and limit_s <= timeout_s:
        return DeadlineExpiredError(f"{server}: no answer within the deadline of {limit_s * 1e3:g} ms")
    return ServerUnavailableError(
        f"{server}: no answer within {timeout_s:g} s; try again later, or raise the time limit"
    )


def unsound_error(server: object, error: UnsoundError) -> RemoteError:
    """The error for an answer that isn't HTTP."""
    return RemoteError(f"{server}: the answer isn't sound HTTP ({error}); is this the server's HTTP port?", 0)


def lost_error(server: object, error: OSError) -> ServerUnavailableError:
    """The error for a connection that failed, or can't be had."""
    return ServerUnavailableError(f"{server}: {error.strerror or error}; is the server running? edge-runtime serve")
