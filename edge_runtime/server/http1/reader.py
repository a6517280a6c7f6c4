"""Finds requests in what a connection receives."""

from __future__ import annotations

from typing import Callable

from edge_runtime.errors import InvalidRequestError, TooLargeError
from edge_runtime.server.compression import check_encoding
from edge_runtime.server.http1.buffer import ReceiveBuffer
from edge_runtime.server.http1.chunks import ChunkedBody
from edge_runtime.server.http1.head import MAX_HEAD_NBYTES, RequestHead, RequestHeads, may_begin_head

_GROWTH = 4
_BEHIND_NBYTES = 1024  # of room behind a long request: a full buffer isn't read into, which costs two calls


class RequestReader:
    """One connection's requests, in their order.

    Args:
        buffer: what was received.
        heads: parses heads.
        limit: largest body, in bytes.
        admit: passes a request that may be answered, by its head, before anything else is made of it; may raise.
        check: refuses a request, by its head alone, whose body isn't there yet; may raise.

    Attributes:
        head: of the request that is being read, or was read last; None before its head is whole.
        body, body_start, body_end: where the body of the request lies that was read last.
        wants_continue: whether the client must be told to send its body; the connection says so and resets it.
    """

    __slots__ = (
        "_admit",
        "_check",
        "_chunks",
        "_heads",
        "_limit",
        "_scanned",
        "body",
        "body_end",
        "body_start",
        "buffer",
        "head",
        "wants_continue",
    )

    def __init__(
        self,
        buffer: ReceiveBuffer,
        heads: RequestHeads,
        limit: int,
        admit: Callable[[RequestHead], None],
        check: Callable[[RequestHead], None],
    ) -> None:
        self.buffer = buffer
        self.head: RequestHead | None = None
        self.body = buffer.data
        self.body_start = self.body_end = 0
        self.wants_continue = False
        self._heads = heads
        self._limit = limit
        self._admit = admit
        self._check = check
        self._chunks: ChunkedBody | None = None
        self._scanned = 0

    def read(self) -> bool:
        """Whether a whole request is there; it is taken out of the buffer, but not out of its memory.

        Raises:
            RequestError: it is broken, too large, or refused by its head.
        """
        head = self.head or self._find_head()
        if head is None:
            return False
        if self._chunks is not None:
            return self._read_chunks(self._chunks)
        end = self.body_start + (head.content_length or 0)
        if end > self.buffer.end:
            return False
        self.body, self.body_end = self.buffer.data, end
        self.buffer.start = end
        return True

    def finish(self) -> None:
        """Says that the request which was read is dealt with, or under way: the next one may be looked for."""
        self.head = None
        self._scanned = 0

    def _find_head(self) -> RequestHead | None:
        buffer = self.buffer
        start, end = buffer.start, buffer.end
        if start == end:
            return None
        found = buffer.data.find(b"\r\n\r\n", max(start, self._scanned - 3), end)
        length = (end if found < 0 else found) - start
        if length >= MAX_HEAD_NBYTES:
            raise InvalidRequestError("not a valid HTTP request")
        if found < 0:
            if not may_begin_head(bytes(buffer.view[start : min(end, start + 24)])):
                raise InvalidRequestError("not a valid HTTP request")
            self._scanned = end
            return None
        self.body_start = found + 4
        head = self.head = self._heads.head(bytes(buffer.view[start : found + 4]))
        self._admit(head)
        body_nbytes = head.content_length
        if body_nbytes is None or body_nbytes > self._limit or end - self.body_start < body_nbytes:
            self._await_body(head)
        return head

    def _await_body(self, head: RequestHead) -> None:
        """Prepares for a body that isn't there yet; what can be refused without it, is."""
        self._check(head)
        if (head.content_length or 0) > self._limit:
            raise TooLargeError(f"the request is over {self._limit} bytes")
        check_encoding(head.encoding)
        if head.content_length is None:
            self._chunks = ChunkedBody(self._limit)
        self.wants_continue = head.expects_continue

    def make_room(self) -> None:
        """Sees to it that more of a request can be received; memory for a long body grows as it comes."""
        if not self.buffer.is_full:
            return
        needed = MAX_HEAD_NBYTES
        if self.head is not None and self._chunks is None:
            needed = self.body_start - self.buffer.start + (self.head.content_length or 0) + _BEHIND_NBYTES
        self._make_room(min(needed, _GROWTH * len(self.buffer.data)))

    def compact(self) -> None:
        """Moves what is left to the front, once nobody has views on what was before it."""
        self._make_room(len(self.buffer.data))

    def _make_room(self, nbytes: int) -> None:
        moved = self.buffer.make_room(nbytes)
        self.body_start -= moved
        self._scanned -= moved

    def _read_chunks(self, chunks: ChunkedBody) -> bool:
        buffer = self.buffer
        buffer.start = chunks.feed(buffer.data, self.body_start, buffer.end)
        if not chunks.is_whole:
            buffer.drop(buffer.start)
            self.body_start = 0
            return False
        self.body, self.body_start, self.body_end = chunks.data, 0, len(chunks.data)
        self._chunks = None
        return True
