"""HTTP/1.1 exchanges over kept connections, each used by one thread at a time."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.client.address import Address
from edge_runtime.errors import RemoteError, ServerUnavailableError

MAX_ANSWER_NBYTES = 2**31 - 1
_PIECE_NBYTES = 2**20
_JOINED_NBYTES = 2**16
_START_IT = "is the server running? edge-runtime serve"


@dataclass(frozen=True)
class HttpRequest:
    """A request; `body` is sent piece by piece, uncopied."""

    method: str
    path: str
    body: Sequence[Any] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpAnswer:
    """A whole answer; header names are looked up without regard to case. The body is bytes that nobody else holds."""

    status: int
    headers: http.client.HTTPMessage
    body: npt.NDArray[np.uint8]


class _NoAnswerError(Exception):
    """The server ended the connection before any byte of an answer."""


class HttpConnections:
    """Connections to one server; any thread may call `exchange`."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._idle: Deque[socket.socket] = deque()
        self._is_closed = False

    def exchange(self, request: HttpRequest) -> HttpAnswer:
        """The answer to a request, which is sent again on a new connection if a kept one had been closed.

        Raises:
            ServerUnavailableError: no connection, no answer, or none in time.
            RemoteError: what came isn't an HTTP answer, is cut short or is too large.
        """
        kept = self._take()
        if kept is not None:
            with contextlib.suppress(_NoAnswerError):
                return self._exchange_on(kept, request)
        try:
            return self._exchange_on(self._connected(), request)
        except _NoAnswerError as error:
            raise ServerUnavailableError(f"{self._address}: the server closed the connection unanswered") from error

    def close(self) -> None:
        """Closes what is idle now, and what is in use when it is given back; idempotent."""
        self._is_closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> socket.socket | None:
        if self._is_closed:
            raise ServerUnavailableError(f"{self._address}: this client is closed; make a new one")
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _give_back(self, connection: socket.socket) -> None:
        self._idle.append(connection)
        if self._is_closed:
            self.close()

    def _connected(self) -> socket.socket:
        with self._translated():
            connection = socket.create_connection((self._address.host, self._address.port), self._timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _exchange_on(self, connection: socket.socket, request: HttpRequest) -> HttpAnswer:
        try:
            with self._translated():
                is_sent = _send(connection, _head(request, self._address), request.body)
                with contextlib.closing(http.client.HTTPResponse(connection, method=request.method)) as response:
                    try:
                        response.begin()
                    except ConnectionError as error:  # http.client's RemoteDisconnected is one too
                        raise _NoAnswerError from error
                    answer = self._read(response)
        except BaseException:
            connection.close()
            raise
        if is_sent and not response.will_close:
            self._give_back(connection)
        else:
            connection.close()
        return answer

    def _read(self, response: http.client.HTTPResponse) -> HttpAnswer:
        body = self._sized_body(response) if response.length is not None else self._unsized_body(response)
        return HttpAnswer(response.status, response.headers, body)

    def _sized_body(self, response: http.client.HTTPResponse) -> npt.NDArray[np.uint8]:
        size = response.length or 0
        self._check_size(size, response.status)
        body = np.empty(size, np.uint8)
        view, got = body.data, 0
        while got < size:
            count = response.readinto(view[got:])
            if not count:
                raise RemoteError(
                    f"{self._address}: the answer ended after {got} of {size} bytes; did the server die?",
                    response.status,
                )
            got += count
        return body

    def _unsized_body(self, response: http.client.HTTPResponse) -> npt.NDArray[np.uint8]:
        body = bytearray()
        while True:
            piece = response.read(_PIECE_NBYTES)
            if not piece:
                return np.frombuffer(body, np.uint8)
            body += piece
            self._check_size(len(body), response.status)

    def _check_size(self, nbytes: int, status: int) -> None:
        if nbytes > MAX_ANSWER_NBYTES:
            raise RemoteError(
                f"{self._address}: an answer of {nbytes} bytes is over this client's limit of {MAX_ANSWER_NBYTES}; "
                "ask for fewer outputs",
                status,
            )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns failures of sockets and of `http.client` into ours."""
        try:
            yield
        except socket.timeout as error:
            raise ServerUnavailableError(
                f"{self._address}: no answer within {self._timeout_s:g} s; try again later, or raise the time limit"
            ) from error
        except http.client.HTTPException as error:
            text = " ".join(str(error).split())[:200]
            raise RemoteError(
                f"{self._address}: the answer isn't sound HTTP ({type(error).__name__}: {text}); "
                "is this the server's HTTP port?",
                0,
            ) from error
        except OSError as error:
            raise ServerUnavailableError(f"{self._address}: {error.strerror or error}; {_START_IT}") from error


def _head(request: HttpRequest, address: Address) -> bytes:
    headers = {"Host": address.authority, "Accept-Encoding": "identity", **request.headers}
    if request.method == "POST":
        headers["Content-Length"] = str(sum(map(len, request.body)))
    lines = [f"{request.method} {address.path}{request.path} HTTP/1.1", *map(": ".join, headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _send(connection: socket.socket, head: bytes, body: Sequence[Any]) -> bool:
    """Sends a request; False if the server stopped reading, in which case its answer may be there already."""
    pieces = [head, *body]
    if sum(map(len, pieces)) <= _JOINED_NBYTES:
        pieces = [b"".join(pieces)]
    try:
        for piece in pieces:
            connection.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True
