"""Which streams there are, and what a frame on any other one means."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, Tuple

from edge_runtime.server.http2.call import Call
from edge_runtime.server.http2.faults import PROTOCOL_ERROR, STREAM_CLOSED, Http2Error

_REMEMBERED = 256


class Streams:
    """The open calls by stream, and what is remembered of closed streams."""

    __slots__ = ("_left_early", "_skipped", "calls", "last_id")

    def __init__(self) -> None:
        self.calls: Dict[int, Call] = {}
        self.last_id = 0
        self._left_early: Deque[int] = deque(maxlen=_REMEMBERED)
        self._skipped: Deque[Tuple[int, int]] = deque(maxlen=16)

    def begin(self, stream_id: int) -> None:
        """Takes a new stream's number.

        Raises:
            Http2Error: a number that a client can't use, or used before.
        """
        if not stream_id & 1:
            raise Http2Error(PROTOCOL_ERROR, f"stream {stream_id}: a client's streams have odd numbers")
        if stream_id <= self.last_id:
            if any(low <= stream_id <= high for low, high in self._skipped):
                raise Http2Error(PROTOCOL_ERROR, f"stream {stream_id}: its number must grow")
            raise Http2Error(STREAM_CLOSED, f"stream {stream_id}: is closed")
        if stream_id > self.last_id + 2:
            self._skipped.append((self.last_id + 1, stream_id - 1))
        self.last_id = stream_id

    def check_begun(self, stream_id: int) -> None:
        """Lets pass what comes on streams that are or were open.

        Raises:
            Http2Error: stream 0, or one that never was.
        """
        if not 0 < stream_id <= self.last_id or not stream_id & 1:
            raise Http2Error(PROTOCOL_ERROR, f"stream {stream_id}: such a frame can't come on it")

    def leave(self, stream_id: int) -> None:
        """Remembers a stream that ended while the client may still send on it."""
        self._left_early.append(stream_id)

    def was_left(self, stream_id: int) -> bool:
        """Whether what comes on it is to be ignored."""
        return stream_id in self._left_early
