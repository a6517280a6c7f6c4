"""What goes to the client: frames that may go at once, and answers that wait for its windows."""

from __future__ import annotations

import struct
from collections import deque
from typing import Callable, Deque, List, Sequence

from edge_runtime.server.http2.call import Buffer, Call
from edge_runtime.server.http2.frames import (
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    WINDOW_LIMIT,
    data_header,
    frame,
)
from edge_runtime.server.http2.header_blocks import ANSWER, SHRINK_TABLE, TRAILER_OK
from edge_runtime.server.http2.intake import PREFIX, PREFIX_NBYTES

_QUANTUM = 64 << 10  # largest frame, so that several answers on one connection take turns
_BURST = 1 << 20  # handed to the socket at once
_OPENING = struct.Struct(f">BHBBL{len(ANSWER)}sBHBBLBL")  # HEADERS, head of DATA, gRPC's prefix
_TRAILERS = frame(HEADERS, END_HEADERS | END_STREAM, 0, TRAILER_OK)[:5]
_CLOSING = struct.Struct(f">5sL{len(TRAILER_OK)}s")


class Outbox:
    """Frames on their way out, in `chunks`, and the windows that the client opened.

    `on_output` is called when there is something to send and nobody who is about to send it.
    """

    __slots__ = (
        "_must_shrink_table",
        "_ready",
        "chunks",
        "initial_window",
        "is_corked",
        "is_paused",
        "max_frame",
        "on_output",
        "queued_bytes",
        "sent_bytes",
        "streamed",
        "waiting_bytes",
        "window",
    )

    def __init__(self, on_output: Callable[[], None]) -> None:
        self.on_output = on_output
        self.chunks: List[bytes] = []
        self.is_corked = False
        self.is_paused = False
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.max_frame = DEFAULT_FRAME
        self.queued_bytes = 0
        self.sent_bytes = 0  # of answers that had to wait
        self.streamed = 0  # messages of streams
        self.waiting_bytes = 0  # of answers on streams that wait for others before them
        self._ready: Deque[Call] = deque()
        self._must_shrink_table = False

    @property
    def has_ready(self) -> bool:
        """Whether `pump` would make frames if the connection's window lets it."""
        return bool(self._ready) and self.window > 0 and not self.is_paused

    @property
    def is_clear(self) -> bool:
        """Whether an answer could be the next to be sent, with no other frame before it."""
        return not (self.chunks or self._ready or self.is_paused or self._must_shrink_table)

    def put(self, data: bytes) -> None:
        """Adds frames."""
        if not self.chunks and not self.is_corked:
            self.on_output()
        self.chunks.append(data)

    def put_head(self, stream_id: int, flags: int, block: bytes) -> None:
        """Adds a HEADERS frame."""
        if self._must_shrink_table:
            self._must_shrink_table = False
            block = SHRINK_TABLE + block
        self.put(frame(HEADERS, END_HEADERS | flags, stream_id, block))

    def answer(self, call: Call, pieces: Sequence[Buffer], nbytes: int) -> bool:
        """Takes in an answer of `nbytes` in all; True if all of it is among the chunks, otherwise the rest waits."""
        size = PREFIX_NBYTES + nbytes
        is_waiting = self._ready or self.is_paused or self._must_shrink_table
        if is_waiting or size > self.window or size > call.window or size > self.max_frame:
            return self._begin(call, pieces, nbytes)
        self.put(answer_frames(call, pieces, nbytes))
        self.window -= size
        return True

    def send(self, call: Call, pieces: Sequence[Buffer], nbytes: int) -> bool:
        """Takes in one of many messages of a call that has no other here; True if all of it is among the chunks."""
        self.streamed += 1
        size = PREFIX_NBYTES + nbytes
        is_waiting = self._ready or self.is_paused
        if is_waiting or size > self.window or size > call.window or size > self.max_frame:
            return self._wait(call, pieces, nbytes)
        self.put(b"".join((data_header(size, call.stream_id), PREFIX.pack(0, nbytes), *pieces)))
        self.window -= size
        call.window -= size
        return True

    def pump(self) -> List[Call]:
        """Turns what waits into frames, as far as the windows and one burst go; gives the calls that are done."""
        done: List[Call] = []
        budget = _BURST
        while self._ready and self.window > 0 and budget > 0 and not self.is_paused:
            call = self._ready.popleft()
            if not call.left:  # taken back meanwhile
                continue
            before = call.left
            self._emit(call, min(budget, _QUANTUM))
            self.sent_bytes += before - call.left
            budget -= before - call.left
            if not call.left:
                self.drop(call)
                done.append(call)
            elif call.window > 0:
                self._ready.append(call)
            else:
                call.is_blocked = True
        return done

    def drop(self, call: Call) -> None:
        """Forgets what is left of an answer."""
        self.queued_bytes -= call.queued
        call.left = call.queued = 0
        call.parts.clear()

    def widen(self, call: Call, increment: int) -> bool:
        """Adds to a call's window, or takes from it; False if it is too large now."""
        call.window += increment
        if call.is_blocked and call.window > 0:
            call.is_blocked = False
            self._ready.append(call)
        return call.window <= WINDOW_LIMIT

    def shrink_table(self) -> None:
        """Says at the next occasion that the client's decoder needs no table."""
        self._must_shrink_table = True

    def _begin(self, call: Call, pieces: Sequence[Buffer], nbytes: int) -> bool:
        self.put_head(call.stream_id, 0, ANSWER)
        return self._wait(call, pieces, nbytes)

    def _wait(self, call: Call, pieces: Sequence[Buffer], nbytes: int) -> bool:
        views = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        call.parts = [memoryview(PREFIX.pack(0, nbytes)), *views]
        call.left = PREFIX_NBYTES + nbytes
        if not self._ready and not self.is_paused:
            self._emit(call, _BURST)
        if not call.left:
            return True
        call.parts = [memoryview(b"".join(call.parts))]
        call.queued = call.left
        self.queued_bytes += call.queued
        call.is_blocked = call.window <= 0
        if not call.is_blocked:
            self._ready.append(call)
        return False

    def _emit(self, call: Call, budget: int) -> None:
        frames: List[Buffer] = []
        size = max(0, min(call.left, call.window, self.window, budget))
        call.left -= size
        call.window -= size
        self.window -= size
        while size > 0:
            length = min(size, self.max_frame)
            frames.append(data_header(length, call.stream_id))
            frames.extend(_taken(call.parts, length))
            size -= length
        if not call.left and not call.is_streaming:
            frames.append(_closing(call))
        if frames:
            self.put(b"".join(frames))


def answer_frames(call: Call, pieces: Sequence[Buffer], nbytes: int) -> bytes:
    """A whole answer of `nbytes` whose message fits into one frame."""
    stream_id = call.stream_id
    size = PREFIX_NBYTES + nbytes
    high, low = size >> 16, size & 0xFFFF
    head = (0, len(ANSWER), HEADERS, END_HEADERS, stream_id, ANSWER, high, low, DATA, 0, stream_id, 0, nbytes)
    closing = _closing(call) if call.trailers else _CLOSING.pack(_TRAILERS, stream_id, TRAILER_OK)
    return b"".join((_OPENING.pack(*head), *pieces, closing))


def _closing(call: Call) -> bytes:
    """The frame that ends a call after its message."""
    if call.trailers:
        return frame(HEADERS, END_HEADERS | END_STREAM, call.stream_id, TRAILER_OK + call.trailers)
    return _CLOSING.pack(_TRAILERS, call.stream_id, TRAILER_OK)


def _taken(parts: List[memoryview], count: int) -> List[memoryview]:
    """The first `count` bytes of the parts, which lose them."""
    taken = []
    while count:
        part = parts[0]
        if len(part) <= count:
            taken.append(parts.pop(0))
            count -= len(part)
        else:
            taken.append(part[:count])
            parts[0] = part[count:]
            count = 0
    return taken
