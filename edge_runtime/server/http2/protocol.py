"""One client's connection on asyncio."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any, Callable, FrozenSet, Optional, Protocol, cast

from edge_runtime.server.clients import client_of
from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.faults import Http2Error
from edge_runtime.server.http2.lifetime import Lifetime
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.receiver import Receiver
from edge_runtime.server.http2.requests import Handler, Requests
from edge_runtime.server.http2.stream_call import Gate

logger = logging.getLogger(__name__)

_HIGH_WATER_NBYTES = 256 << 10
_JOINED_NBYTES = 64 << 10  # up to so many bytes, frames are copied together for one send
_UNIX_BUFFER_NBYTES = 1 << 20


class Keeper(Protocol):
    """What connections of one server share, on one loop's thread."""

    arena: memoryview
    gates: Optional[Callable[[Any, Connection], Gate]]
    streaming: FrozenSet[str]

    def add(self, protocol: Http2Protocol) -> bool:
        """Takes in a new connection; False if there are too many."""

    def remove(self, protocol: Http2Protocol) -> None:
        """Forgets a connection."""

    def flush_soon(self, protocol: Http2Protocol) -> None:
        """Has it flushed when the loop comes round."""


class Http2Protocol(asyncio.BufferedProtocol):
    """Reads and writes for one client; made by `Http2Server`."""

    __slots__ = (
        "_closing_since_ns",
        "_connection",
        "_is_direct",
        "_keeper",
        "_lifetime",
        "_receiver",
        "_requests",
        "_rest",
        "_transport",
    )

    def __init__(self, handler: Handler, limits: Http2Limits, keeper: Keeper) -> None:
        self._keeper = keeper
        self._connection = Connection(limits, "", self._on_output, time.perf_counter_ns())
        self._requests = Requests(self._connection, handler)
        self._receiver = Receiver(self._connection, self._requests)
        self._lifetime = Lifetime(self._connection, self._requests)
        self._rest = b""  # of a frame that hasn't come whole
        self._is_direct = False
        self._closing_since_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the client."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._keeper.add(self):
            self._connection.is_over = True
            self._transport.abort()
            return
        self._connection.peer = _peer(self._transport)
        self._connection.client = client_of(self._transport)
        if self._keeper.gates is not None:
            self._requests.gate = self._keeper.gates(self._transport, self._connection)
        self._requests.streaming = self._keeper.streaming
        self._connection.direct.transport = self._transport
        self._transport.set_write_buffer_limits(_HIGH_WATER_NBYTES)
        self._connection.greet()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Cancels what is under way for this client."""
        self._connection.settle()
        self._connection.direct.socket.close()
        self._connection.lost()
        self._keeper.remove(self)
        self._closing_since_ns = self._closing_since_ns or time.perf_counter_ns()  # nothing is written from here on
        self._connection.direct.transport = None
        del self._transport  # or TLS's 256 KiB would wait with us for the collector of cycles

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go: to a large message itself, or to the buffer that all connections share."""
        while self._receiver.has_more and not self._connection.is_over:
            self._go_on()  # TLS before Python 3.11 gives what it has read, also when reading is paused
        room = self._receiver.room()
        self._is_direct = room is not None
        if room is not None:
            return room
        rest = self._rest
        if not rest:
            return self._keeper.arena
        self._keeper.arena[: len(rest)] = rest
        return self._keeper.arena[len(rest) :]

    def buffer_updated(self, nbytes: int) -> None:
        """Takes in what came, and sends what was answered at once."""
        connection = self._connection
        if connection.is_over:
            return
        if nbytes:
            connection.now_ns = time.perf_counter_ns()
        connection.settle()
        connection.outbox.is_corked = True
        try:
            if self._is_direct:
                self._receiver.received(nbytes)
            else:
                end = nbytes + len(self._rest)
                left = self._receiver.receive(self._keeper.arena, end)
                self._rest = bytes(self._keeper.arena[end - left : end]) if left else b""
        except Http2Error as fault:
            logger.debug("%s: %s", connection.peer, fault)
            connection.fail(fault)
        connection.outbox.is_corked = False
        self.flush()
        if self._receiver.has_more and not connection.is_over:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def pause_writing(self) -> None:
        """Stops reading too: who doesn't take answers needn't ask for more."""
        self._connection.outbox.is_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Goes on."""
        self._connection.outbox.is_paused = False
        if self._receiver.has_more and not self._connection.is_over:
            self._go_on()
        else:
            self._transport.resume_reading()
        self.flush()

    def flush(self) -> None:
        """Sends all that may be sent now."""
        connection, outbox, carrier = self._connection, self._connection.outbox, self._requests.carrier
        if self._lifetime.is_draining or connection.controls.is_leaving:
            self._lifetime.advance(connection.now_ns)
        if outbox.has_ready or carrier.has_more:
            outbox.is_corked = True
            connection.pump()
            carrier.resume()
            outbox.is_corked = False
        if outbox.chunks:
            self._write()
        if connection.is_over:
            self._finish()
        elif outbox.has_ready or carrier.has_more:
            self._keeper.flush_soon(self)  # other connections have their turn first

    def check(self, now_ns: int) -> None:
        """Ends what took too long."""
        if self._closing_since_ns:
            if now_ns - self._closing_since_ns > self._connection.limits.linger_s * 1e9:
                self._transport.abort()
        elif not self._lifetime.check(now_ns, self._transport.get_write_buffer_size()):
            logger.debug("%s: doesn't take its answers", self._connection.peer)
            self._transport.abort()
        else:
            self.flush()

    def drain(self, now_ns: int) -> None:
        """Ends the connection when what the client has begun is answered."""
        self._lifetime.drain(now_ns)

    def abort(self) -> None:
        """Drops the connection."""
        self._transport.abort()

    def _go_on(self) -> None:
        """Takes in more of what was left for other connections to have their turn; reads again if that is all."""
        connection, receiver = self._connection, self._receiver
        if receiver.has_more and not connection.is_over:
            self._is_direct = False
            self._keeper.arena[: len(self._rest)] = self._rest
            self.buffer_updated(0)
        if not (receiver.has_more or connection.is_over or connection.outbox.is_paused):
            self._transport.resume_reading()

    def _on_output(self) -> None:
        if not self._closing_since_ns:
            self._keeper.flush_soon(self)

    def _write(self) -> None:
        self._connection.settle()
        self._connection.direct.socket.finish()
        chunks = self._connection.outbox.chunks
        self._connection.outbox.chunks = []
        if self._closing_since_ns or self._transport.is_closing():
            return
        if len(chunks) == 1:
            self._transport.write(chunks[0])
        elif sum(map(len, chunks)) <= _JOINED_NBYTES:
            self._transport.write(b"".join(chunks))
        else:
            for chunk in chunks:
                if not self._transport.is_closing():  # by the write before
                    self._transport.write(chunk)

    def _finish(self) -> None:
        """Says no more, and throws away what the client still sends until it has read the last words."""
        if not self._closing_since_ns:
            self._closing_since_ns = time.perf_counter_ns()
            self._rest = b""
            if not self._transport.is_closing():
                self._transport.resume_reading()
                self._connection.direct.socket.finish()
                if self._transport.can_write_eof():
                    self._transport.write_eof()
                else:  # TLS can't close one way alone
                    self._transport.close()


def _peer(transport: asyncio.Transport) -> str:
    """The client's address; a Unix socket's buffer is enlarged, as its answers go through it whole."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNIX_BUFFER_NBYTES)
        return "unix"
    name = transport.get_extra_info("peername")
    if not name:
        return "unknown"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
