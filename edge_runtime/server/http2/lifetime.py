"""How long a connection lasts: what is timed, and how it is drained."""

from __future__ import annotations

from typing import List

from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.controls import DRAIN_PING
from edge_runtime.server.http2.faults import NO_ERROR
from edge_runtime.server.http2.frames import LAST_STREAM, goaway, ping
from edge_runtime.server.http2.requests import Requests
from edge_runtime.server.http2.stream_call import StreamCall

_LEAST_TAKEN = 64 << 10  # of what waits, within the send timeout
_ARE_YOU_THERE = b"stream\0\0"
_PONG_NS = 1_000_000_000  # so long a drain waits for the client to have seen its first GOAWAY


class Lifetime:
    """The clock of one connection. `check` is called now and then, `advance` after whatever happened."""

    __slots__ = (
        "_connection",
        "_drained_at_ns",
        "_idle_since_ns",
        "_last_id",
        "_pinged_ns",
        "_requests",
        "_stalled_since_ns",
        "_taken",
        "is_draining",
    )

    def __init__(self, connection: Connection, requests: Requests) -> None:
        self._connection = connection
        self._requests = requests
        self._last_id = 0
        self._idle_since_ns = connection.now_ns
        self._taken = 0
        self._stalled_since_ns = connection.now_ns
        self._drained_at_ns = 0
        self._pinged_ns = 0
        self.is_draining = False

    def drain(self, now_ns: int) -> None:
        """Says that the connection will end; calls that the client has begun by then are still taken."""
        if not self.is_draining:
            self.is_draining = True
            self._drained_at_ns = now_ns
            self._connection.outbox.put(goaway(LAST_STREAM, NO_ERROR) + ping(DRAIN_PING))

    def advance(self, now_ns: int) -> None:
        """Goes on with a drain."""
        connection = self._connection
        has_heard = connection.controls.has_ponged or now_ns - self._drained_at_ns > _PONG_NS
        if self.is_draining and has_heard and not self._requests.is_closed:
            self._requests.is_closed = True
            connection.outbox.put(goaway(connection.streams.last_id, NO_ERROR))
        if self.is_draining:
            for call in self._streams():
                call.fail("UNAVAILABLE", "the server is shutting down; ask another one")
        if not connection.streams.calls and (self._requests.is_closed or connection.controls.is_leaving):
            connection.is_over = True

    def check(self, now_ns: int, unsent_bytes: int) -> bool:
        """Ends what took too long; False if the client doesn't take its answers: it is to be cut off.

        `unsent_bytes` are those that were taken out of the outbox, but lie before the socket.
        """
        connection = self._connection
        limits = connection.limits
        for call in list(connection.streams.calls.values()):
            if isinstance(call, StreamCall):
                call.check(now_ns)
            elif not call.is_ended and now_ns - call.arrival_ns > limits.body_timeout_s * 1e9:
                connection.refuse(
                    call, "DEADLINE_EXCEEDED", f"the message didn't come within {limits.body_timeout_s:g} s"
                )
        if connection.streams.calls or connection.streams.last_id != self._last_id:
            self._last_id = connection.streams.last_id
            self._idle_since_ns = now_ns
        elif now_ns - self._idle_since_ns > limits.idle_timeout_s * 1e9:
            connection.outbox.put(goaway(self._last_id, NO_ERROR, "idle"))
            connection.is_over = True
        self.advance(now_ns)
        return not self._is_stalled(now_ns, unsent_bytes) and not self._is_gone(now_ns)

    def _streams(self) -> List[StreamCall]:
        return [call for call in self._connection.streams.calls.values() if isinstance(call, StreamCall)]

    def _is_gone(self, now_ns: int) -> bool:
        """Whether a client with a stream, which may be silent for as long as it likes, doesn't answer a PING either."""
        connection = self._connection
        limit_ns, heard_ns = connection.limits.idle_timeout_s * 1e9, connection.now_ns
        if now_ns - heard_ns <= limit_ns or connection.outbox.is_paused or not self._streams():
            self._pinged_ns = 0
        elif not self._pinged_ns:
            self._pinged_ns = now_ns
            connection.outbox.put(ping(_ARE_YOU_THERE))
        return bool(self._pinged_ns) and now_ns - self._pinged_ns > limit_ns

    def _is_stalled(self, now_ns: int, unsent_bytes: int) -> bool:
        outbox = self._connection.outbox
        taken = outbox.sent_bytes - unsent_bytes
        is_waiting = outbox.queued_bytes or outbox.is_paused
        if not is_waiting or taken >= self._taken + _LEAST_TAKEN:
            self._taken = taken
            self._stalled_since_ns = now_ns
        return now_ns - self._stalled_since_ns > self._connection.limits.send_timeout_s * 1e9
