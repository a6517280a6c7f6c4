"""Bytes to frames: the preface, whole frames, and DATA as it comes."""

from __future__ import annotations

import time
from typing import Optional, Tuple

from edge_runtime.server.http2.call import Call, UnaryCall
from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.continuation import Continuation
from edge_runtime.server.http2.faults import ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR, Http2Error
from edge_runtime.server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADER,
    HEADER_NBYTES,
    HEADERS,
    LAST_STREAM,
    PADDED,
    PREFACE,
    PUSH_PROMISE,
    SETTINGS,
)
from edge_runtime.server.http2.header_blocks import HeaderReader
from edge_runtime.server.http2.intake import PREFIX, PREFIX_NBYTES
from edge_runtime.server.http2.requests import Requests

_MAX_CONTROL_NBYTES = 16 << 10
_DIRECT_NBYTES = 64 << 10  # from so many missing bytes of a frame on, they are received to where they belong
_TURN_NS = 2_000_000
_FRAMES_A_LOOK = 4  # the clock is looked at behind so many
_NOTHING = memoryview(b"")
_unpack = HEADER.unpack_from
_unpack_prefix = PREFIX.unpack_from


class Receiver:
    """Splits what arrives. All of DATA is taken in at once, other frames when they are whole.

    Attributes:
        has_more: what was left was left for other connections to have their turn, and some of it may be whole.
    """

    __slots__ = (
        "_blocks",
        "_call",
        "_connection",
        "_is_end",
        "_is_greeted",
        "_left",
        "_max_frame",
        "_max_single",
        "_padding",
        "_reader",
        "_requests",
        "has_more",
    )

    def __init__(self, connection: Connection, requests: Requests) -> None:
        limits = connection.limits
        self._connection = connection
        self._requests = requests
        self._reader = HeaderReader(limits.max_header_list_bytes)
        self._blocks = Continuation(self._reader.max_block_bytes, limits.max_continuations)
        self._max_frame = limits.max_frame_bytes
        self._max_single = min(limits.stream_window_bytes, limits.max_message_bytes + PREFIX_NBYTES)
        self._is_greeted = False
        self._call: Optional[Call] = None  # of the DATA frame that is under way
        self._left = 0  # bytes of it that haven't come
        self._padding = 0  # bytes after those
        self._is_end = False
        self.has_more = False

    def receive(self, data: memoryview, end: int) -> int:
        """Takes in the first `end` bytes; gives how many of the last of them must come again, before the next ones.

        Raises:
            Http2Error: the client broke a rule that the connection hangs on.
        """
        pos = frames = 0
        self.has_more = False
        if not self._is_greeted:
            pos = self._greeted(data, end)
            if not self._is_greeted:
                return end
        if self._left or self._padding:
            pos = self._pour(data, pos, end)
        begin_ns = time.perf_counter_ns()
        while end - pos >= HEADER_NBYTES:
            frames += 1
            if not frames % _FRAMES_A_LOOK and time.perf_counter_ns() - begin_ns > _TURN_NS:
                self.has_more = True
                break
            high, low, kind, flags, stream_id = _unpack(data, pos)
            stream_id &= LAST_STREAM
            length = high << 16 | low
            begin = pos + HEADER_NBYTES
            self._check(kind, length)
            if kind == DATA:
                if flags & PADDED and begin == end:
                    break
                pos = self._on_data(data, begin, end, (length, flags, stream_id))
            elif begin + length <= end:
                pos = begin + length
                self._on_frame(kind, flags, stream_id, bytes(data[begin:pos]))
            else:
                break
        return end - pos

    def room(self) -> Optional[memoryview]:
        """Where the rest of a large message may be received straight to; `received` then takes it in."""
        call = self._call
        if self._left < _DIRECT_NBYTES or call is None or call.intake is None:
            return None
        return call.intake.room(self._left, _DIRECT_NBYTES)

    def received(self, count: int) -> None:
        """Takes in what was received to `room`."""
        assert self._call is not None
        assert self._call.intake is not None
        self._call.intake.received(count)
        if self._call.is_streaming:
            self._requests.feed(self._call, _NOTHING, 0)  # the message may be whole, and the frame go on with another
        self._left -= count
        if not self._left:
            self._pour(_NOTHING, 0, 0)

    def _greeted(self, data: memoryview, end: int) -> int:
        seen = bytes(data[: min(end, len(PREFACE))])
        if seen != PREFACE[: len(seen)]:
            raise Http2Error(PROTOCOL_ERROR, "not HTTP/2 with prior knowledge: the preface is missing")
        if end < len(PREFACE) + HEADER_NBYTES:
            return 0
        _, _, kind, flags, _ = _unpack(data, len(PREFACE))
        if kind != SETTINGS or flags & ACK:
            raise Http2Error(PROTOCOL_ERROR, "the first frame must be SETTINGS")
        self._is_greeted = True
        return len(PREFACE)

    def _check(self, kind: int, length: int) -> None:
        if length > self._max_frame:
            raise Http2Error(FRAME_SIZE_ERROR, f"a frame of {length} bytes; at most {self._max_frame} are taken")
        if kind == DATA or length <= _MAX_CONTROL_NBYTES:
            is_too_long = False
        elif kind in (HEADERS, CONTINUATION):
            is_too_long = length > self._reader.max_block_bytes
        else:
            is_too_long = True
        if is_too_long:
            raise Http2Error(ENHANCE_YOUR_CALM, f"a frame of type {kind} with {length} bytes")
        if self._blocks.is_open and kind != CONTINUATION:
            raise Http2Error(PROTOCOL_ERROR, "a header block isn't followed by its CONTINUATION")

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        block: Optional[bytes]
        if kind == HEADERS:
            block = self._blocks.begin(flags, stream_id, payload)
        elif kind == CONTINUATION:
            block = self._blocks.extend(flags, stream_id, payload)
        else:
            self._on_control(kind, flags, stream_id, payload)
            return
        if block is not None:
            self._requests.on_head(stream_id, self._blocks.is_end, self._reader.head(block))

    def _on_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        controls = self._connection.controls
        if controls.knows(kind):
            controls.on_frame(kind, flags, stream_id, payload)
        elif kind == PUSH_PROMISE:
            raise Http2Error(PROTOCOL_ERROR, "a client can't promise a push")
        else:
            controls.count()

    def _on_data(self, data: memoryview, begin: int, end: int, header: Tuple[int, int, int]) -> int:
        length, flags, stream_id = header
        connection = self._connection
        connection.uploads.take(length)
        call = connection.streams.calls.get(stream_id)
        stop = begin + length
        if (  # the whole of a call's message, and nothing else
            type(call) is UnaryCall
            and flags == END_STREAM
            and stop <= end
            and PREFIX_NBYTES <= length <= self._max_single
            and call.intake is None
            and not call.is_ended
            and call.content_length in (-1, length)
            and _unpack_prefix(data, begin) == (0, length - PREFIX_NBYTES)
        ):
            call.is_ended = True
            call.message = bytes(data[begin + PREFIX_NBYTES : stop])
            self._requests.deliver(call)
            return stop
        if call is None:
            self._requests.on_stray_data(stream_id)
        elif not self._requests.may_send(call, length):
            call = None
        self._call = call
        self._left = length
        self._padding = 0
        self._is_end = bool(flags & END_STREAM)
        if flags & PADDED:
            self._strip(data[begin])
            begin += 1
        if not self._left and not self._is_end:
            connection.controls.count()
        return self._pour(data, begin, end)

    def _strip(self, padding: int) -> None:
        """Takes the padding out of a DATA frame, which doesn't count as message."""
        if padding >= self._left:
            raise Http2Error(PROTOCOL_ERROR, "DATA has more padding than bytes")
        self._left -= padding + 1
        self._padding = padding
        if self._call is not None:
            self._call.padding += padding + 1
            if not self._is_end:
                self._connection.uploads.allow(self._call, padding + 1)

    def _pour(self, data: memoryview, pos: int, end: int) -> int:
        """Takes in what has come of a DATA frame."""
        call = self._call
        count = min(self._left, end - pos)
        if count:
            if call is not None and not call.is_answered:
                is_alone = len(self._connection.streams.calls) == 1
                self._requests.feed(call, data[pos : pos + count], end - pos - count if is_alone else 0)
            self._left -= count
            pos += count
        if self._left:
            return pos
        count = min(self._padding, end - pos)
        self._padding -= count
        if not self._padding:
            self._call = None
            if self._is_end and call is not None and not call.is_answered:
                call.is_ended = True
                self._requests.complete(call)
        return pos + count
