"""The state of one HTTP/2 connection, and how its calls end."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Hashable, Sequence, Tuple

from edge_runtime.server.access import Visitor
from edge_runtime.server.direct_socket import BROKEN
from edge_runtime.server.http2.call import Buffer, Call, UnaryCall
from edge_runtime.server.http2.controls import Controls
from edge_runtime.server.http2.direct import DirectAnswer
from edge_runtime.server.http2.faults import NO_ERROR, Http2Error
from edge_runtime.server.http2.frames import (
    DEFAULT_WINDOW,
    END_STREAM,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    goaway,
    rst_stream,
    settings,
    window_update,
)
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.outbox import Outbox
from edge_runtime.server.http2.status import grpc_status_block
from edge_runtime.server.http2.stream_call import StreamCall
from edge_runtime.server.http2.streams import Streams
from edge_runtime.server.http2.uploads import Uploads


class Connection:
    """Streams, windows and the outbox of one client.

    `on_output` is called when there is something to send that no read is about to send. `is_over` says that nothing
    more is read: what is in the outbox is the last that goes out.
    """

    __slots__ = (
        "client",
        "controls",
        "direct",
        "is_over",
        "limits",
        "now_ns",
        "outbox",
        "peer",
        "streams",
        "uploads",
        "visitor",
    )

    def __init__(self, limits: Http2Limits, peer: str, on_output: Callable[[], None], now_ns: int) -> None:
        self.limits = limits
        self.peer = peer
        self.client: Hashable = None
        self.visitor: Visitor | None = None
        self.now_ns = now_ns  # when the bytes that are read now came
        self.streams = Streams()
        self.outbox = Outbox(on_output)
        self.direct = DirectAnswer(self.outbox)
        self.uploads = Uploads(limits, self.outbox.put)
        self.controls = Controls(self, limits)
        self.is_over = False

    def greet(self) -> None:
        """Tells the client our limits."""
        values = {
            MAX_CONCURRENT_STREAMS: self.limits.max_streams,
            INITIAL_WINDOW_SIZE: self.limits.stream_window_bytes,
            MAX_FRAME_SIZE: self.limits.max_frame_bytes,
            MAX_HEADER_LIST_SIZE: self.limits.max_header_list_bytes,
        }
        more = self.limits.connection_window_bytes - DEFAULT_WINDOW
        self.outbox.put(settings(values) + (window_update(0, more) if more > 0 else b""))

    def answer(self, call: UnaryCall, pieces: Sequence[Buffer]) -> None:
        """Sends one message and status OK; called by `UnaryCall.reply`."""
        self.settle()
        nbytes = 0
        for piece in pieces:
            nbytes += len(piece) if type(piece) is bytes else memoryview(piece).nbytes
        if self.outbox.queued_bytes and self.outbox.queued_bytes + nbytes > self.limits.max_output_bytes:
            self.refuse(call, "RESOURCE_EXHAUSTED", "too many answers wait for the client to take them")
            return
        is_sent = self.outbox.answer(call, pieces, nbytes)
        call.is_answered = True
        call.on_cancel = None
        self.uploads.release(call)
        if is_sent:
            self._close(call)

    def refuse(self, call: Call, code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> None:
        """Sends a gRPC status alone; called by `UnaryCall.fail`."""
        self.end(call, grpc_status_block(code, text, metadata))

    def offer(self, call: UnaryCall) -> Callable[[Any], Any] | None:
        """What sends an answer past the loop, if this is the only call; called by `UnaryCall.offer`."""
        if len(self.streams.calls) == 1 and call.is_ended and not self.is_over and self.direct.offer(call):
            return partial(self.direct.deliver, call)
        return None

    def settle(self) -> None:
        """Ends the offer, and the call if its answer was sent: before anything else is answered or written, or read."""
        call = self.direct.withdraw()
        if call is not None:
            self._sent(call)

    def delivered(self, call: UnaryCall, left: Any) -> None:
        """Takes note of what was sent past the loop; called by `UnaryCall.delivered`."""
        if left is BROKEN and self.direct.transport is not None:
            self.direct.transport.abort()
        elif self.direct.socket.take_sent(call) is call:  # otherwise it is known
            self._sent(call)

    def _sent(self, call: UnaryCall) -> None:
        self.outbox.window -= call.direct_nbytes
        if not call.is_answered:
            call.is_answered = True
            call.on_cancel = None
            self.uploads.release(call)
            self._close(call)
            if self.controls.is_leaving:
                self.outbox.on_output()  # it may be the last

    def end(self, call: Call, block: bytes) -> None:
        """Sends a header block alone, and the call's trailers in it."""
        call.is_answered = True
        call.on_cancel = None
        self.uploads.release(call)
        self.outbox.put_head(call.stream_id, END_STREAM, block + call.trailers)
        self._close(call)

    def reset(self, stream_id: int, code: int) -> None:
        """Ends a stream with RST_STREAM for what the client did; a call on it is cancelled.

        Raises:
            Http2Error: that happened too often.
        """
        call = self.streams.calls.pop(stream_id, None)
        if call is not None:
            self.take_back(call)
        if call is None or not call.is_ended:
            self.streams.leave(stream_id)
        self.outbox.put(rst_stream(stream_id, code))
        self.controls.count_reset()

    def take_back(self, call: Call) -> None:
        """Ends a call that isn't among the streams any more, without a word to the client."""
        self.uploads.release(call)
        self.outbox.drop(call)
        call.intake = None
        call.cancel()

    def pump(self) -> None:
        """Makes frames of answers that wait, as the windows let it."""
        for call in self.outbox.pump():
            if isinstance(call, StreamCall):
                call.go_on()
            else:
                self._close(call)

    def fail(self, fault: Http2Error) -> None:
        """Ends the connection for what the client did."""
        self.lost()
        self.outbox.put(goaway(self.streams.last_id, fault.code, str(fault)))

    def lost(self) -> None:
        """Cancels all calls: the client is gone."""
        self.is_over = True
        calls = list(self.streams.calls.values())
        self.streams.calls.clear()
        for call in calls:
            self.take_back(call)

    def _close(self, call: Call) -> None:
        call.intake = None
        self.streams.calls.pop(call.stream_id, None)
        if not call.is_ended:
            self.streams.leave(call.stream_id)
            self.outbox.put(rst_stream(call.stream_id, NO_ERROR))
