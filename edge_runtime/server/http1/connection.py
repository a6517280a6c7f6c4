"""One HTTP/1.1 connection: requests one after another, and the time that each may take."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Callable, Hashable, Protocol, cast

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.server.access import Access, Visitor
from edge_runtime.server.clients import client_of
from edge_runtime.server.http1.buffer import ReceiveBuffer
from edge_runtime.server.http1.exchange import Exchange, Serving
from edge_runtime.server.http1.head import RequestHead, RequestHeads
from edge_runtime.server.http1.reader import RequestReader
from edge_runtime.server.http1.writer import AnswerWriter
from edge_runtime.server.origin import origin_fields
from edge_runtime.server.routes import HttpRefusedError, refusal

_LINGER_NS = 2_000_000_000  # so long the rest of a refused body is read, for the client to see why
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Owner(Serving, Protocol):
    """The server, as its connections see it."""

    access: Access
    heads: RequestHeads
    idle_ns: int
    body_ns: int

    def opened(self, connection: HttpConnection) -> None:
        """Takes in a connection."""

    def lost(self, connection: HttpConnection) -> None:
        """Forgets a connection."""

    def check(self, head: RequestHead) -> None:
        """Raises for a request that its head alone shows can't be answered."""

    def refused(self, head: RequestHead | None, error: EdgeRuntimeError, arrival_ns: int) -> None:
        """Counts an inference that was refused before it was whole."""


class _Turn:
    """Stands for a request that is under way, until other connections have had their turn of the loop."""

    def __init__(self, over: Callable[[], None]) -> None:
        self._handle = asyncio.get_running_loop().call_soon(over)

    def go_on(self) -> None:
        """Nothing waits for the client."""

    def cancel(self) -> None:
        """Says that the client is gone."""
        self._handle.cancel()


class HttpConnection(asyncio.BufferedProtocol):
    """Receives into a buffer of its own, which requests are views of until they are answered.

    One request at a time is under way; what the client sends behind it waits in the buffer and, once that is full, in
    the kernel's. Of requests that are answered at once there is one in each turn of the loop, so that a client with
    many doesn't keep others waiting. `expires_ns` is when the server calls `expire`; None while nothing is waited for.
    """

    def __init__(self, server: Owner) -> None:
        self._server = server
        self._buffer = ReceiveBuffer()
        self._reader = RequestReader(self._buffer, server.heads, server.max_body_nbytes, self._admit, server.check)
        self._visitor: Visitor | None = None
        self._arrival_ns = 0
        self._exchange: Exchange | _Turn | None = None
        self._transport: asyncio.Transport | None = None
        self._is_reading_paused = False
        self._expires_ns: int | None = None
        self.writer = AnswerWriter(server.body_ns)
        self.client: Hashable = None
        self._peer: Hashable = None

    @property
    def expires_ns(self) -> int | None:
        """When the time of a head, a body, a reader or a refused client is over."""
        return self.writer.expires_ns or self._expires_ns

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the time that the first head has."""
        self._transport = cast(asyncio.Transport, transport)
        self.writer.begin(self._transport)
        self._visitor = self._server.access.visitor(transport)
        self.client = self._peer = client_of(transport)
        self._expires_ns = time.perf_counter_ns() + self._server.idle_ns
        self._server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002
        """Cancels what is under way for this client."""
        self._transport = None
        self.writer.lost()
        self._server.lost(self)
        if self._exchange is not None:
            self._exchange.go_on()
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        del self._reader  # it holds us, and our buffer would wait with us for the collector of cycles

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; all of `sizehint` bytes, if that is positive and nothing was received yet.

        Before Python 3.11, TLS still gives what it has read already when reading is paused: a positive `sizehint`
        always gets room.
        """
        buffer = self._buffer
        if self._exchange is not None:
            self._exchange.go_on()
        if sizehint > 0 and not buffer.end:
            buffer.make_room(sizehint)
        elif sizehint > 0 and buffer.is_full:
            buffer.extend(sizehint)
        return buffer.view[buffer.end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Takes in what the client sent."""
        buffer = self._buffer
        if self.writer.is_ending:
            return
        if buffer.end == buffer.start and (self._exchange is not None or self._reader.head is None):
            self._arrival_ns = time.perf_counter_ns()
        buffer.end += nbytes
        if self._exchange is None:
            self._advance()
        if self._exchange is None and not self.writer.is_paused:
            self._reader.make_room()
        must_wait = buffer.end == len(buffer.data) and (self._exchange is not None or self.writer.is_paused)
        if must_wait and self._transport is not None and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()
            if self._exchange is not None:
                self._exchange.go_on()

    def pause_writing(self) -> None:
        """The client doesn't read: nothing more is done for it until it does."""
        self.writer.is_paused = True
        self._expires_ns = time.perf_counter_ns() + self._server.body_ns

    def resume_writing(self) -> None:
        """The client reads again."""
        self.writer.is_paused = False
        if self._exchange is not None:
            self._expires_ns = None  # it is watching, and may go on
        elif not self.writer.is_ending:
            self._go_on()

    def answered(self) -> None:
        """Says that the request which was under way has its answer written; goes on with what came behind it."""
        self._exchange = None
        if self._transport is not None and not self.writer.is_ending:
            self._go_on()

    def expire(self) -> None:
        """Ends what has taken too long."""
        self._expires_ns = None
        if self.writer.is_paused or self.writer.is_ending:
            self.writer.abort()
        elif self._reader.head is None:
            self.writer.close()
        else:
            self._refuse(HttpRefusedError(f"the body didn't arrive within {self._server.body_ns / 1e9:g} s", 408))

    def _admit(self, head: RequestHead) -> None:
        assert self._visitor is not None
        client = self._visitor.check(head.authorization, head.is_administrative, head.is_from_page)
        self.client = self._peer if client is None else client

    def _advance(self) -> None:
        """Handles what is whole in the buffer, until a request is under way or more must come."""
        reader, writer = self._reader, self.writer
        try:
            while self._exchange is None and not writer.is_paused and not writer.is_ending:
                if not reader.read():
                    if reader.head is not None:
                        self._expires_ns = self._arrival_ns + self._server.body_ns
                    if reader.wants_continue:
                        reader.wants_continue = False
                        writer.write(_CONTINUE)
                    return
                self._expires_ns = None
                exchange = Exchange(writer, self.answered, self._server, reader, self._arrival_ns, self.client)
                reader.finish()
                if exchange.begin():
                    self._exchange = exchange
                else:
                    self._rest()
                    if self._buffer.end:
                        self._exchange = _Turn(self.answered)
        except EdgeRuntimeError as error:
            self._refuse(error)

    def _go_on(self) -> None:
        self._rest()
        if self._buffer.end == 0 and not self._is_reading_paused:
            return
        if self._buffer.end != self._buffer.start:
            self._advance()
        if self._is_reading_paused and self._exchange is None and not self.writer.is_ending:
            self._reader.compact()
            self._is_reading_paused = False
            if self._transport is not None:
                self._transport.resume_reading()

    def _rest(self) -> None:
        """Nothing is under way: the next head has its time again."""
        now_ns = time.perf_counter_ns()
        self._buffer.rest()
        if not self.writer.is_paused:
            self._expires_ns = now_ns + self._server.idle_ns

    def _refuse(self, error: EdgeRuntimeError) -> None:
        """Answers a request that won't be read to its end."""
        head = self._reader.head
        traceparent = None if head is None else head.traceparent
        self._server.refused(head, error, self._arrival_ns)
        self._buffer.start = self._buffer.end = 0
        answer = refusal(error, partial(origin_fields, None, traceparent))
        self.writer.refuse(answer.traced(traceparent), _LINGER_NS)
