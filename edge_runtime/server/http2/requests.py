"""Requests as they come in: a head, pieces of a message, an end."""

from __future__ import annotations

import logging
from typing import Callable, Collection, Optional, Tuple

from edge_runtime.server.http2.call import Call, UnaryCall
from edge_runtime.server.http2.compression import decompressed
from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.faults import (
    FLOW_CONTROL_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    CallRefusedError,
)
from edge_runtime.server.http2.head import Head, are_well_formed
from edge_runtime.server.http2.intake import Intake
from edge_runtime.server.http2.status import http_status_block
from edge_runtime.server.http2.stream_call import Gate, StreamCall
from edge_runtime.server.http2.stream_carrier import StreamCarrier

logger = logging.getLogger(__name__)

Handler = Callable[[UnaryCall], None]
Refusal = Tuple[str, str]


class Requests:
    """Turns what arrives on streams into calls of the handler.

    `gate` says by a call's head, before anything else is taken in of it, why it is refused: code and text, or None. On
    a stream of many messages it is asked for each of them.
    `streaming` are the paths of methods with streams of many messages: the handler gets each message as a call.
    `is_closed` refuses new ones.
    """

    __slots__ = (
        "_connection",
        "_handler",
        "_max_message_bytes",
        "_max_streams",
        "carrier",
        "gate",
        "is_closed",
        "streaming",
    )

    def __init__(self, connection: Connection, handler: Handler) -> None:
        self._connection = connection
        self._handler = handler
        self._max_message_bytes = connection.limits.max_message_bytes
        self._max_streams = connection.limits.max_streams
        self.carrier = StreamCarrier(connection)
        self.gate: Gate = _open
        self.streaming: Collection[str] = ()
        self.is_closed = False

    def on_head(self, stream_id: int, is_end: bool, head: Head) -> None:
        """Begins a call, or ends one by trailers.

        Raises:
            Http2Error: a stream that can't begin, or too many for nothing.
        """
        connection = self._connection
        calls = connection.streams.calls
        call = calls.get(stream_id)
        if call is not None:
            self._on_trailers(call, is_end, head)
            return
        if connection.streams.was_left(stream_id):
            connection.controls.count()
            return
        connection.streams.begin(stream_id)
        if len(calls) >= self._max_streams or self.is_closed:
            connection.reset(stream_id, REFUSED_STREAM)
            return
        if head.path in self.streaming:
            call = StreamCall(self.carrier, stream_id, head, self.deliver, self.gate)
        else:
            call = UnaryCall(connection, stream_id, head, connection.now_ns, connection.outbox.initial_window)
        call.is_ended = is_end
        calls[stream_id] = call
        refusal = self.gate(head) if head.is_plain else None
        call.client = connection.client  # the gate knows better
        if not head.is_plain:
            self._refuse_head(call, head)
        elif refusal is not None:
            connection.refuse(call, *refusal)
        elif is_end:
            self.complete(call)

    def feed(self, call: Call, piece: memoryview, at_hand: int) -> None:
        """Takes in a piece of a message; `at_hand` is how much more of it has come already."""
        if not isinstance(call, UnaryCall):
            assert isinstance(call, StreamCall)
            call.feed(piece)
            return
        intake = call.intake
        if intake is None:
            intake = call.intake = Intake(self._max_message_bytes)
        was_known = intake.nbytes >= 0
        try:
            intake.feed(piece, at_hand)
        except CallRefusedError as fault:
            self._connection.refuse(call, fault.status, str(fault))
            return
        if not was_known and intake.nbytes >= 0:
            self._connection.uploads.announce(call, intake.nbytes)

    def complete(self, call: Call) -> None:
        """Hands over a call to which the client adds nothing more."""
        connection = self._connection
        if call.content_length not in (-1, call.received - call.padding):
            connection.reset(call.stream_id, PROTOCOL_ERROR)
            return
        if not isinstance(call, UnaryCall):
            assert isinstance(call, StreamCall)
            call.end()
            return
        try:
            if call.intake is None:
                raise CallRefusedError("INVALID_ARGUMENT", "the call has no message")
            message = call.intake.message()
            if call.intake.is_compressed:
                message = decompressed(message, call.encoding, self._max_message_bytes)
        except CallRefusedError as fault:
            connection.refuse(call, fault.status, str(fault))
            return
        call.intake = None
        call.message = message
        self.deliver(call)

    def deliver(self, call: UnaryCall) -> None:
        """Calls the handler with a whole message."""
        self._connection.uploads.hold(call)
        try:
            self._handler(call)
        except Exception:  # the top frame of a call
            logger.exception("a gRPC call failed")
            call.fail("INTERNAL", "internal error")

    def may_send(self, call: Call, nbytes: int) -> bool:
        """Whether a DATA frame of that length is for this call; otherwise the stream was ended."""
        call.received += nbytes
        if call.is_ended:
            self._connection.reset(call.stream_id, STREAM_CLOSED)
        elif call.received > self._connection.uploads.first_window + call.allowed:
            self._connection.reset(call.stream_id, FLOW_CONTROL_ERROR)
        else:
            return True
        return False

    def on_stray_data(self, stream_id: int) -> None:
        """Takes in DATA for a stream that is no call any more.

        Raises:
            Http2Error: a stream that never was one, or too much of that.
        """
        self._connection.streams.check_begun(stream_id)
        if not self._connection.streams.was_left(stream_id):
            self._connection.reset(stream_id, STREAM_CLOSED)

    def _on_trailers(self, call: Call, is_end: bool, head: Head) -> None:
        if call.is_ended:
            self._connection.reset(call.stream_id, STREAM_CLOSED)
        elif not is_end or not are_well_formed(head.fields):
            self._connection.reset(call.stream_id, PROTOCOL_ERROR)
        else:
            call.is_ended = True
            self.complete(call)

    def _refuse_head(self, call: Call, head: Head) -> None:
        if head.is_malformed or (call.is_ended and head.content_length > 0):
            self._connection.reset(call.stream_id, PROTOCOL_ERROR)
        elif head.http_status:
            self._connection.end(call, http_status_block(head.http_status))
        elif head.refusal is not None:
            self._connection.refuse(call, *head.refusal)


def _open(_: Head) -> Optional[Refusal]:
    return None
