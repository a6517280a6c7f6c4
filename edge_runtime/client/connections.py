"""HTTP/1.1 exchanges over kept connections of blocking sockets, each used by one thread at a time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections import deque
from typing import Any, Deque, Sequence

from edge_runtime.client.address import Address
from edge_runtime.client.http_answer import AnswerReader, HttpAnswer, NoAnswerError, UnsoundError
from edge_runtime.client.http_request import (
    HttpRequest,
    closed_error,
    head_bytes,
    late_error,
    lost_error,
    unanswered_error,
    unsound_error,
)
from edge_runtime.wire.http_infer import HEAD_LENGTH

MAX_ANSWER_NBYTES = 2**31 - 1
_BUFFER_NBYTES = 2**16
_UNIX_BUFFER_NBYTES = 2**20
_MAX_PIECES = 512
_PART_HEADER = HEAD_LENGTH.lower()


class HttpConnections:
    """Connections to one server; any thread may call `exchange`."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._tls = address.credentials.context() if address.is_secure else None
        self._idle: Deque[_Connection] = deque()
        self._is_closed = False

    def exchange(self, request: HttpRequest) -> HttpAnswer:
        """The answer to a request, which is sent again on a new connection if a kept one had been closed.

        Raises:
            ServerUnavailableError: no connection, no answer, or none in time.
            RemoteError: what came isn't an HTTP answer, is cut short or is too large.
        """
        expiry = None if request.limit_s is None else time.monotonic() + request.limit_s
        kept = self._take()
        try:
            if kept is not None:
                with contextlib.suppress(NoAnswerError):
                    return self._exchange_on(kept, request, expiry)
            return self._exchange_on(self._connected(expiry), request, expiry)
        except NoAnswerError as error:
            raise unanswered_error(self._address) from error
        except UnsoundError as error:
            raise unsound_error(self._address, error) from error
        except (socket.timeout, BlockingIOError) as error:
            raise late_error(self._address, self._timeout_s, request.limit_s) from error
        except OSError as error:
            raise lost_error(self._address, error) from error

    def close(self) -> None:
        """Closes what is idle now, and what is in use when it is given back; idempotent."""
        self._is_closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> _Connection | None:
        if self._is_closed:
            raise closed_error(self._address)
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _give_back(self, connection: _Connection) -> None:
        self._idle.append(connection)
        if self._is_closed:
            self.close()

    def _connected(self, expiry: float | None) -> _Connection:
        limit_s = self._timeout_s if expiry is None else min(self._timeout_s, _left_s(expiry))
        return _Connection(connected_socket(self._address, limit_s, self._tls), self._timeout_s)

    def _exchange_on(self, connection: _Connection, request: HttpRequest, expiry: float | None) -> HttpAnswer:
        reader = AnswerReader(str(self._address), MAX_ANSWER_NBYTES, _PART_HEADER)
        try:
            is_sent = connection.send([request.head or head_bytes(request, self._address), *request.body], expiry)
            answer = connection.receive(reader, expiry)
        except BaseException:
            connection.close()
            raise
        if is_sent and reader.is_reusable:
            self._give_back(connection)
        else:
            connection.close()
        return answer


class _Connection:
    """A blocking socket, whose waits the kernel limits, and a buffer for what it gives."""

    def __init__(self, connected: socket.socket, timeout_s: float) -> None:
        self._socket = connected
        self._timeout_s = timeout_s
        self._limit_s = 0.0
        self._buffer = bytearray(_BUFFER_NBYTES)
        self._view = memoryview(self._buffer)

    def close(self) -> None:
        self._socket.close()

    def send(self, pieces: Sequence[Any], expiry: float | None) -> bool:
        """Sends a request; False if the server stopped reading, in which case its answer may be there already."""
        self._limit(expiry)
        try:
            if sum(map(len, pieces)) <= _BUFFER_NBYTES:
                self._socket.sendall(b"".join(pieces))
            else:
                self._send_gathered([memoryview(piece) for piece in pieces])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self, reader: AnswerReader, expiry: float | None) -> HttpAnswer:
        """The answer to what was sent."""
        is_first = True
        while reader.answer is None:
            if not is_first:
                self._limit(expiry)
            room = reader.room()
            try:
                size = self._socket.recv_into(self._buffer if room is None else room)
            except ConnectionError as error:
                if is_first:
                    raise NoAnswerError from error
                raise
            is_first = False
            if not size:
                reader.ended()
            elif room is None:
                reader.feed(bytes(self._view[:size]))
            else:
                reader.filled(size)
        return reader.answer

    def _send_gathered(self, pieces: Sequence[memoryview]) -> None:
        if isinstance(self._socket, ssl.SSLSocket):
            for piece in pieces:
                self._socket.sendall(piece)
            return
        left = deque(pieces)
        while left:
            sent = self._socket.sendmsg([left[index] for index in range(min(len(left), _MAX_PIECES))])
            while left and sent >= len(left[0]):
                sent -= len(left.popleft())
            if sent:
                left[0] = left[0][sent:]

    def _limit(self, expiry: float | None) -> None:
        """Sets how long the next wait may be."""
        limit_s = self._timeout_s if expiry is None else min(self._timeout_s, _left_s(expiry))
        if limit_s != self._limit_s:
            set_limits(self._socket, limit_s)
            self._limit_s = limit_s


def connected_socket(address: Address, limit_s: float, tls: ssl.SSLContext | None = None) -> socket.socket:
    """A blocking socket that is connected to a server, within `limit_s`, by TLS if `tls` is given.

    Raises:
        OSError: it can't be had.
    """
    if not address.socket_path:
        connection = socket.create_connection((address.host, address.port), limit_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            return _wrapped(connection, tls, address.host)
        connection.settimeout(None)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        set_limits(connection, limit_s)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNIX_BUFFER_NBYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNIX_BUFFER_NBYTES)
        connection.connect(address.socket_path)
    except BaseException:
        connection.close()
        raise
    return connection


def _wrapped(connection: socket.socket, tls: ssl.SSLContext, host: str) -> socket.socket:
    try:
        return tls.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def set_limits(connection: socket.socket, seconds: float) -> None:
    """Lets the kernel limit the waits of a blocking socket: one system call a wait, where Python's limits take two.

    TLS has Python's limits, for it would wait on where the kernel has ended a wait.
    """
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return
    value = struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1e6)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def _left_s(expiry: float) -> float:
    left_s = expiry - time.monotonic()
    if left_s <= 0:
        raise BlockingIOError
    return left_s
