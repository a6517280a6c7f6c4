"""A request message that arrives in pieces."""

from __future__ import annotations

import struct
from typing import Optional, Union

from edge_runtime.server.http2.faults import CallRefusedError

PREFIX = struct.Struct(">BL")  # gRPC's: is it compressed, length
PREFIX_NBYTES = 5
_FIRST_NBYTES = 4 << 10
_GROWTH = 4  # the buffer is so many times as large as what has come


class Intake:
    """One length-prefixed message; its buffer grows with what has arrived, not with what was announced."""

    __slots__ = ("_buffer", "_have", "_max_bytes", "_prefix", "is_compressed", "nbytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._prefix = b""
        self._buffer = bytearray()
        self._have = 0
        self.nbytes = -1  # of the message, once it is known
        self.is_compressed = False

    @property
    def missing(self) -> int:
        """Bytes that must still come; of the prefix alone, until that is there."""
        return PREFIX_NBYTES - len(self._prefix) if self.nbytes < 0 else self.nbytes - self._have

    def feed(self, piece: memoryview, at_hand: int) -> None:
        """Takes in a piece; `at_hand` is how much more surely belongs to this message.

        Raises:
            CallRefusedError: a message over the limit, or bytes after its end.
        """
        if self.nbytes < 0:
            missing = PREFIX_NBYTES - len(self._prefix)
            self._prefix += bytes(piece[:missing])
            if len(self._prefix) < PREFIX_NBYTES:
                return
            piece = piece[missing:]
            self._announce(*PREFIX.unpack(self._prefix))
        end = self._have + len(piece)
        if end > self.nbytes:
            raise CallRefusedError("INVALID_ARGUMENT", "a unary call has one message, and nothing after it")
        if end > len(self._buffer):
            self._grow(max(end, min(max(_FIRST_NBYTES, _GROWTH * (end + at_hand)), self.nbytes)))
        self._buffer[self._have : end] = piece
        self._have = end

    def room(self, count: int, least: int) -> Optional[memoryview]:
        """Where the next up to `count` bytes may be received straight to; None if fewer than `least` are missing."""
        missing = self.nbytes - self._have
        if missing < least:
            return None
        if len(self._buffer) - self._have < least:
            self._grow(min(_GROWTH * max(self._have, least), self.nbytes))
        return memoryview(self._buffer)[self._have : min(self._have + count, self.nbytes)]

    def received(self, count: int) -> None:
        """Counts what was received to `room`."""
        self._have += count

    def message(self) -> Union[memoryview, bytes]:
        """The whole message.

        Raises:
            CallRefusedError: the client ended the call before it.
        """
        if self._have != self.nbytes:
            raise CallRefusedError("INVALID_ARGUMENT", "the call ended before its message")
        return memoryview(self._buffer).toreadonly()

    def _announce(self, flag: int, nbytes: int) -> None:
        if flag > 1:
            raise CallRefusedError("INVALID_ARGUMENT", "not a gRPC message: its first byte is neither 0 nor 1")
        if nbytes > self._max_bytes:
            raise CallRefusedError(
                "RESOURCE_EXHAUSTED", f"the message has {nbytes} bytes; at most {self._max_bytes} are taken"
            )
        self.is_compressed = bool(flag)
        self.nbytes = nbytes

    def _grow(self, nbytes: int) -> None:
        larger = bytearray(nbytes)
        larger[: self._have] = memoryview(self._buffer)[: self._have]
        self._buffer = larger
