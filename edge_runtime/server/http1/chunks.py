"""A body in chunks (RFC 9112, 7.1), put together piece by piece within limits."""

from __future__ import annotations

import re

from edge_runtime.errors import InvalidRequestError, TooLargeError

_MAX_CHUNKS = 1 << 18
_MAX_LINE_NBYTES = 256
_MAX_TRAILER_NBYTES = 1 << 13
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")


class ChunkedBody:
    """Collects the bytes of chunks; `is_whole` once the last one and the trailers have come."""

    __slots__ = ("_chunks", "_is_in_trailer", "_left", "_limit", "_trailer_nbytes", "data", "is_whole")

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.is_whole = False
        self._limit = limit
        self._left = 0  # of the chunk that is being read, with the two bytes that end it
        self._chunks = 0
        self._is_in_trailer = False
        self._trailer_nbytes = 0

    def feed(self, buffer: bytearray, start: int, end: int) -> int:
        """Takes what it can of `buffer[start:end]`, and says where it stopped.

        Raises:
            InvalidRequestError: it isn't framed as chunks are.
            TooLargeError: the body is over the limit.
        """
        while start < end and not self.is_whole:
            if self._left > 2:
                size = min(self._left - 2, end - start)
                self.data += memoryview(buffer)[start : start + size]
                start += size
                self._left -= size
            elif self._left:
                if buffer[start] != (13 if self._left == 2 else 10):
                    raise InvalidRequestError("the body isn't framed as HTTP says")
                start += 1
                self._left -= 1
            else:
                stop = buffer.find(b"\n", start, min(end, start + _MAX_LINE_NBYTES))
                if stop < 0:
                    if end - start >= _MAX_LINE_NBYTES:
                        raise InvalidRequestError("the body isn't framed as HTTP says")
                    return start
                self._line(bytes(buffer[start : stop + 1]))
                start = stop + 1
        return start

    def _line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise InvalidRequestError("the body isn't framed as HTTP says")
        if self._is_in_trailer:
            self._trailer_nbytes += len(line)
            self.is_whole = line == b"\r\n"
            if self._trailer_nbytes > _MAX_TRAILER_NBYTES or not (self.is_whole or _FIELD.fullmatch(line)):
                raise InvalidRequestError("the body isn't framed as HTTP says")
            return
        match = _SIZE.fullmatch(line, 0, len(line) - 2)
        self._chunks += 1
        if match is None or self._chunks > _MAX_CHUNKS:
            raise InvalidRequestError("the body isn't framed as HTTP says")
        size = int(match[1], 16)
        if len(self.data) + size > self._limit:
            raise TooLargeError(f"the request is over {self._limit} bytes")
        self._is_in_trailer = size == 0
        self._left = size + 2 if size else 0
