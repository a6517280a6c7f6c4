"""Header blocks put together from HEADERS and CONTINUATION frames."""

from __future__ import annotations

from typing import List, Optional

from edge_runtime.server.http2.faults import ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR, Http2Error
from edge_runtime.server.http2.frames import END_HEADERS, END_STREAM, PADDED, WITH_PRIORITY

_PRIORITY_NBYTES = 5


class Continuation:
    """The block that is under way, of stream `stream_id`, if `is_open`."""

    __slots__ = ("_max_bytes", "_max_pieces", "_nbytes", "_pieces", "is_end", "is_open", "stream_id")

    def __init__(self, max_bytes: int, max_pieces: int) -> None:
        self._max_bytes = max_bytes
        self._max_pieces = max_pieces
        self._pieces: List[bytes] = []
        self._nbytes = 0
        self.is_open = False
        self.is_end = False  # the stream's
        self.stream_id = 0

    def begin(self, flags: int, stream_id: int, payload: bytes) -> Optional[bytes]:
        """Takes in a HEADERS frame; gives the block if that was all of it.

        Raises:
            Http2Error: padding or priority that the frame has no room for.
        """
        if flags & (PADDED | WITH_PRIORITY):
            payload = _stripped(flags, payload)
        self.is_end = bool(flags & END_STREAM)
        self.stream_id = stream_id
        if flags & END_HEADERS:
            return payload
        self.is_open = True
        self._pieces = [payload]
        self._nbytes = len(payload)
        return None

    def extend(self, flags: int, stream_id: int, payload: bytes) -> Optional[bytes]:
        """Takes in a CONTINUATION frame; gives the block if that was the last.

        Raises:
            Http2Error: it continues nothing, or there are too many.
        """
        if not self.is_open or stream_id != self.stream_id:
            raise Http2Error(PROTOCOL_ERROR, "CONTINUATION of no header block")
        self._pieces.append(payload)
        self._nbytes += len(payload)
        if len(self._pieces) > self._max_pieces + 1 or self._nbytes > self._max_bytes:
            raise Http2Error(ENHANCE_YOUR_CALM, "a header block is too long")
        if not flags & END_HEADERS:
            return None
        self.is_open = False
        block = b"".join(self._pieces)
        self._pieces.clear()
        return block


def _stripped(flags: int, payload: bytes) -> bytes:
    begin = (1 if flags & PADDED else 0) + (_PRIORITY_NBYTES if flags & WITH_PRIORITY else 0)
    if len(payload) < begin:
        raise Http2Error(FRAME_SIZE_ERROR, "HEADERS is too short for its padding and priority")
    padding = payload[0] if flags & PADDED else 0
    if begin + padding > len(payload):
        raise Http2Error(PROTOCOL_ERROR, "HEADERS has more padding than bytes")
    return payload[begin : len(payload) - padding]
