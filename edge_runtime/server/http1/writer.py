"""What a connection sends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from http import HTTPStatus
from typing import Any

from edge_runtime.server.direct_socket import DirectSocket
from edge_runtime.server.live.feed import EVENTS_HEADERS
from edge_runtime.server.origin import TRACEPARENT
from edge_runtime.server.routes import HttpAnswer


class AnswerWriter:
    """Sends answers over a transport; in vain once the client is gone.

    Attributes:
        is_paused: the client doesn't read.
        is_pipelined: the client may have asked on without waiting for an answer.
        is_ending: the last answer has been written.
        expires_ns: when the client has had its time to read the last one; None before.
    """

    def __init__(self, ending_ns: int) -> None:
        self._ending_ns = ending_ns
        self._transport: asyncio.Transport | None = None
        self._direct = DirectSocket(can_rest=True)
        self.is_paused = False
        self.is_pipelined = False
        self.is_ending = False
        self.expires_ns: int | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Sends over that transport from here on."""
        self._transport = transport

    def lost(self) -> None:
        """Sends nothing from here on."""
        self._transport = None
        self._direct.close()

    def offer(self) -> bool:
        """Whether `deliver` may be called once, from any thread, until `end_offer` is."""
        transport = self._transport
        return transport is not None and not self.is_pipelined and self._direct.offer(transport, self)

    def deliver(self, data: bytes) -> Any:
        """Sends an answer past the transport; gives what `DirectSocket.deliver` does."""
        return self._direct.deliver(self, data)

    def end_offer(self) -> bool:
        """Lets nothing be delivered any more; whether an answer was, which the loop didn't know yet."""
        self._direct.withdraw()
        return self._direct.take_sent() is not None

    def write(self, data: Any) -> None:
        """Sends bytes of an answer."""
        if self._transport is not None:
            self._direct.finish()
            self._transport.write(data)

    def answer(self, answer: HttpAnswer, is_last: bool, has_body: bool = True) -> None:
        """Sends an answer; the last one closes the connection behind it."""
        data = framed(answer, is_last)
        self.write(data if has_body else data[: len(data) - len(answer.body)])
        if is_last:
            self.is_ending = True
            self.expires_ns = time.perf_counter_ns() + self._ending_ns
            self.close()

    def begin_events(self, traceparent: str | None) -> None:
        """Sends the head of server-sent events, which end with the connection."""
        headers = {**EVENTS_HEADERS, "Connection": "close"}
        if traceparent is not None:
            headers[TRACEPARENT] = traceparent
        lines = ["HTTP/1.1 200 OK", *map(": ".join, headers.items())]
        self.write("\r\n".join(lines).encode() + b"\r\n\r\n")

    def event(self, data: bytes) -> None:
        """Sends an event, unless the client doesn't read; an empty one closes the connection behind what was sent."""
        if not data:
            self.is_ending = True
            self.expires_ns = time.perf_counter_ns() + self._ending_ns
            self.close()
        elif not self.is_paused:
            self.write(data)

    def refuse(self, answer: HttpAnswer, linger_ns: int) -> None:
        """Sends the last answer, to a request that isn't read to its end; the client has a while to see it."""
        self.write(framed(answer, is_last=True))
        self.is_ending = True
        self.expires_ns = time.perf_counter_ns() + linger_ns
        if self._transport is not None and self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client is gone already
                self._transport.write_eof()

    def close(self) -> None:
        """Closes the connection behind what is written already."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes the connection at once, whatever is lost."""
        if self._transport is not None:
            self._transport.abort()


def framed(answer: HttpAnswer, is_last: bool) -> bytes:
    """An answer as HTTP/1.1 sends it."""
    headers = {
        "Content-Type": answer.content_type,
        **answer.headers,
        "Content-Length": str(len(answer.body)),
        "Server": "edge_runtime",
    }
    if is_last:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", *map(": ".join, headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body
