"""What streams of many messages do to their connection."""

from __future__ import annotations

from typing import Dict, Optional, Sequence

from edge_runtime.server.http2.call import Buffer
from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.faults import CANCEL
from edge_runtime.server.http2.frames import rst_stream
from edge_runtime.server.http2.header_blocks import ANSWER, TRAILER_OK
from edge_runtime.server.http2.status import OK_ALONE, grpc_status_block, grpc_trailers
from edge_runtime.server.http2.stream_call import Refusal, StreamCall


class StreamCarrier:
    """The streams of one connection that have more to take in than they may at once, and how streams are answered."""

    __slots__ = ("_backed_up", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._backed_up: Dict[StreamCall, None] = {}

    @property
    def has_more(self) -> bool:
        """Whether `resume` would take in something."""
        return bool(self._backed_up)

    def resume_soon(self, call: StreamCall) -> None:
        """Has a stream take in more at the next `resume`."""
        self._backed_up[call] = None
        if not self.connection.outbox.is_corked:
            self.connection.outbox.on_output()

    def resume(self) -> None:
        """Lets each stream that waits for it take in some of what has come."""
        calls, self._backed_up = self._backed_up, {}
        for call in calls:
            call.resume()

    def send(self, call: StreamCall, pieces: Sequence[Buffer]) -> None:
        """Sends a message, which waits in the outbox if it must."""
        connection = self.connection
        connection.settle()
        if not call.is_open:
            call.is_open = True
            connection.outbox.put_head(call.stream_id, 0, ANSWER)
        connection.outbox.send(call, pieces, sum(memoryview(piece).nbytes for piece in pieces))

    def finish(self, call: StreamCall, refusal: Optional[Refusal]) -> None:
        """Ends a stream with a status, None being OK; if a message is under way, with a reset."""
        connection = self.connection
        connection.settle()
        if call.left:
            connection.streams.calls.pop(call.stream_id, None)
            connection.take_back(call)
            if not call.is_ended:
                connection.streams.leave(call.stream_id)
            connection.outbox.put(rst_stream(call.stream_id, CANCEL))
        elif call.is_open:
            connection.end(call, TRAILER_OK if refusal is None else grpc_trailers(*refusal))
        else:
            connection.end(call, OK_ALONE if refusal is None else grpc_status_block(*refusal))
