"""Frames that carry no call: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, GOAWAY, PRIORITY."""

from __future__ import annotations

from typing import Callable, Dict, Protocol, Tuple

from edge_runtime.server.http2 import frames
from edge_runtime.server.http2.allowance import Allowance
from edge_runtime.server.http2.call import Call
from edge_runtime.server.http2.faults import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    Http2Error,
)
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.outbox import Outbox
from edge_runtime.server.http2.streams import Streams

_MAX_IDLE_UPDATES = 10_000  # WINDOW_UPDATEs while nothing was sent that they could be for
_MIN_FRAME, _MAX_FRAME = 2**14, 2**24 - 1
_DEFAULT_TABLE = 4096
_MAX_SETTINGS = 32

DRAIN_PING = b"drain\0\0\0"
_LENGTHS = {frames.PRIORITY: 5, frames.RST_STREAM: 4, frames.PING: 8, frames.WINDOW_UPDATE: 4}


class Owner(Protocol):
    """What control frames do to the rest of a connection."""

    now_ns: int
    streams: Streams
    outbox: Outbox

    def reset(self, stream_id: int, code: int) -> None:
        """Ends a stream with RST_STREAM."""

    def take_back(self, call: Call) -> None:
        """Ends a call that the client has reset."""


class Controls:
    """Obeys and answers control frames, and counts those that do nothing for the client's calls."""

    __slots__ = (
        "_control",
        "_handlers",
        "_idle_updates",
        "_outbox",
        "_owner",
        "_progress",
        "_resets",
        "_streams",
        "has_ponged",
        "is_leaving",
    )

    def __init__(self, owner: Owner, limits: Http2Limits) -> None:
        self._owner = owner
        self._streams = owner.streams
        self._outbox = owner.outbox
        self._control = Allowance(limits.control_burst, limits.control_rate, owner.now_ns)
        self._resets = Allowance(limits.reset_burst, limits.reset_rate, owner.now_ns)
        self._idle_updates = 0
        self._progress: Tuple[int, int] = (0, 0)
        self._handlers: Dict[int, Callable[[int, int, bytes], None]] = {
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_rst_stream,
            frames.SETTINGS: self._on_settings,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
        }
        self.is_leaving = False  # the client said GOAWAY
        self.has_ponged = False  # it answered the PING of a drain

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Takes in a whole frame of a kind that `knows`.

        Raises:
            Http2Error: a broken frame, or too many of them.
        """
        if len(payload) != _LENGTHS.get(kind, len(payload)):
            if kind == frames.PRIORITY and stream_id:
                self._owner.reset(stream_id, FRAME_SIZE_ERROR)
                return
            raise Http2Error(FRAME_SIZE_ERROR, f"a frame of type {kind} can't have {len(payload)} bytes")
        self._handlers[kind](flags, stream_id, payload)

    def knows(self, kind: int) -> bool:
        """Whether frames of that kind come here."""
        return kind in self._handlers

    def count(self) -> None:
        """Counts a frame that moves nothing.

        Raises:
            Http2Error: too many.
        """
        if self._control.is_spent(self._owner.now_ns):
            raise Http2Error(ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def count_reset(self) -> None:
        """Counts a call that came to nothing by the client's doing.

        Raises:
            Http2Error: too many.
        """
        if self._resets.is_spent(self._owner.now_ns):
            raise Http2Error(ENHANCE_YOUR_CALM, "too many calls taken back")

    def _on_priority(self, _: int, stream_id: int, __: bytes) -> None:
        self.count()
        if not stream_id:
            raise Http2Error(PROTOCOL_ERROR, "PRIORITY of no stream")

    def _on_rst_stream(self, _: int, stream_id: int, __: bytes) -> None:
        self._streams.check_begun(stream_id)
        call = self._streams.calls.pop(stream_id, None)
        if call is None:
            self.count()
            return
        self._owner.take_back(call)
        self.count_reset()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self.count()
        if stream_id:
            raise Http2Error(PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(payload) % frames.SETTING.size or (flags & frames.ACK and payload):
            raise Http2Error(FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if len(payload) > _MAX_SETTINGS * frames.SETTING.size:
            raise Http2Error(ENHANCE_YOUR_CALM, f"more than {_MAX_SETTINGS} settings at once")
        if not flags & frames.ACK:
            for name, value in frames.SETTING.iter_unpack(payload):
                self._set(name, value)
            self._outbox.put(frames.SETTINGS_ACK)

    def _set(self, name: int, value: int) -> None:
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > frames.WINDOW_LIMIT:
                raise Http2Error(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1")
            self._resize_windows(value)
        elif name == frames.MAX_FRAME_SIZE:
            if not _MIN_FRAME <= value <= _MAX_FRAME:
                raise Http2Error(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of its range")
            self._outbox.max_frame = value
        elif name == frames.ENABLE_PUSH:
            if value > 1:
                raise Http2Error(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
        elif name == frames.HEADER_TABLE_SIZE and value < _DEFAULT_TABLE:
            self._outbox.shrink_table()

    def _resize_windows(self, size: int) -> None:
        change = size - self._outbox.initial_window
        self._outbox.initial_window = size
        for call in self._streams.calls.values():
            if not self._outbox.widen(call, change):
                raise Http2Error(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE makes a window overflow")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self.count()
        if stream_id:
            raise Http2Error(PROTOCOL_ERROR, "PING of a stream")
        if not flags & frames.ACK:
            self._outbox.put(frames.ping_ack(payload))
        elif payload == DRAIN_PING:
            self.has_ponged = True

    def _on_goaway(self, _: int, stream_id: int, payload: bytes) -> None:
        self.count()
        if stream_id:
            raise Http2Error(PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise Http2Error(FRAME_SIZE_ERROR, "GOAWAY is too short")
        self.is_leaving = True

    def _on_window_update(self, _: int, stream_id: int, payload: bytes) -> None:
        self._count_update()
        increment = frames.WORD.unpack(payload)[0] & frames.WINDOW_LIMIT
        if not stream_id:
            if not increment:
                raise Http2Error(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._outbox.window += increment
            if self._outbox.window > frames.WINDOW_LIMIT:
                raise Http2Error(FLOW_CONTROL_ERROR, "WINDOW_UPDATE makes the window overflow")
            return
        self._streams.check_begun(stream_id)
        call = self._streams.calls.get(stream_id)
        if call is None:
            return
        if not increment:
            self._owner.reset(stream_id, PROTOCOL_ERROR)
        elif not self._outbox.widen(call, increment):
            self._owner.reset(stream_id, FLOW_CONTROL_ERROR)

    def _count_update(self) -> None:
        self._idle_updates += 1
        if self._idle_updates > _MAX_IDLE_UPDATES:
            progress = (self._streams.last_id + self._outbox.streamed, self._outbox.sent_bytes)
            if progress == self._progress:
                raise Http2Error(ENHANCE_YOUR_CALM, "too many WINDOW_UPDATEs for nothing")
            self._progress = progress
            self._idle_updates = 0
