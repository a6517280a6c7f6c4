"""HTTP/1.1 answers out of what a socket gives, strictly; the same for blocking sockets and for asyncio."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Dict

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import RemoteError

Bytes = npt.NDArray[np.uint8]

_MAX_HEAD_NBYTES = 2**16
_MAX_HEADERS = 100
_ALIGNMENT = 64
_LARGE_NBYTES = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_BODILESS = (204, 304)


class UnsoundError(Exception):
    """What came isn't HTTP; the text says in what way."""


class NoAnswerError(Exception):
    """The server ended the connection before any byte of an answer."""


@dataclass(frozen=True)
class HttpAnswer:
    """A whole answer; header names are in lower case. The body is writeable memory that nobody else holds."""

    status: int
    headers: Dict[str, str]
    body: Bytes


@dataclass(frozen=True)
class _Head:
    status: int
    headers: Dict[str, str]
    is_kept: bool
    is_chunked: bool
    length: int | None  # of the body; None: until its last chunk, or until the connection ends


class AnswerReader:
    """Takes one answer in, piece by piece.

    Args:
        server: who answers, for messages.
        limit: the largest body that is taken, in bytes.
        part_header: a header with the length of a body's first part, after which that of a large body lies aligned.
    """

    def __init__(self, server: str, limit: int, part_header: str = "") -> None:
        self.answer: HttpAnswer | None = None
        self.is_reusable = False
        self._server = server
        self._limit = limit
        self._part_header = part_header
        self._head: _Head | None = None
        self._kept = b""
        self._body = np.empty(0, np.uint8)
        self._left = memoryview(b"")
        self._pieces = bytearray()
        self._chunk_left = 0

    def room(self) -> memoryview | None:
        """Where the rest of a body of known length is to be received into; None: `feed` what is received."""
        return self._left if len(self._left) else None

    def filled(self, size: int) -> None:
        """Says that so many bytes were received into `room`."""
        self._left = self._left[size:]
        if not len(self._left):
            self._end(self._body, b"")

    def feed(self, data: bytes) -> None:
        """Takes in what was received; `answer` is there once it is whole.

        Raises:
            UnsoundError: it isn't HTTP.
            RemoteError: it is larger than is taken.
        """
        while self._head is None:
            data = self._kept + data if self._kept else data
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or end > _MAX_HEAD_NBYTES:
                self._keep_head(data)
                return
            head = _parsed_head(data[: end - 4])
            self._kept, data = b"", data[end:]
            if head.status >= 200:
                self._begin(head)
            elif head.status == 101:
                raise UnsoundError("it changes the protocol")
        if self._head.is_chunked:
            self._feed_chunks(data)
        elif self._head.length is None:
            self._add(data)
        else:
            size = min(len(data), len(self._left))
            self._left[:size] = data[:size]
            self._left = self._left[size:]
            if not len(self._left):
                self._end(self._body, data[size:])

    def ended(self) -> None:
        """Takes in that the server closed the connection, which ends a body of unknown length.

        Raises:
            NoAnswerError: nothing had come.
            UnsoundError: the answer is cut short.
            RemoteError: its body is.
        """
        if self._head is None:
            if not self._kept:
                raise NoAnswerError
            raise UnsoundError("it ends inside its head")
        if self._head.length is not None:
            size, got = self._body.size, self._body.size - len(self._left)
            raise RemoteError(
                f"{self._server}: the answer ended after {got} of {size} bytes; did the server die?", self._head.status
            )
        if self._head.is_chunked:
            raise UnsoundError("it ends inside a chunk")
        self._end(np.frombuffer(self._pieces, np.uint8), b"")
        self.is_reusable = False

    def _keep_head(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1."[: len(data)]):
            raise UnsoundError(f"it begins with {data[:20]!r}")
        if len(data) > _MAX_HEAD_NBYTES:
            raise UnsoundError(f"its head is over {_MAX_HEAD_NBYTES} bytes")
        self._kept = data

    def _begin(self, head: _Head) -> None:
        self._head = head
        if head.length is None:
            return
        self._check_size(head.length)
        part = head.headers.get(self._part_header, "") if head.length >= _LARGE_NBYTES else ""
        aligned_from = int(part) if part.isdigit() and len(part) < 16 else 0
        memory = np.empty(head.length + (_ALIGNMENT if aligned_from else 0), np.uint8)
        start = -(memory.ctypes.data + aligned_from) % _ALIGNMENT if aligned_from else 0
        self._body = memory[start : start + head.length]
        self._left = self._body.data

    def _feed_chunks(self, data: bytes) -> None:
        data, at = self._kept + data if self._kept else data, 0
        while self.answer is None:
            if self._chunk_left > 2:
                piece = data[at : at + self._chunk_left - 2]
                self._add(piece)
                self._chunk_left -= len(piece)
                at += len(piece)
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            self._next_chunk(data[at:end])
            at = end + 2
        self._kept = data[at:]
        if len(self._kept) > _MAX_HEAD_NBYTES:
            raise UnsoundError("a chunk without a length")
        if self.answer is not None and self._kept:
            self.is_reusable = False

    def _next_chunk(self, line: bytes) -> None:
        """Takes in a line between chunks: the empty end of one, the length of the next, or a trailer."""
        if self._chunk_left == 2:
            self._chunk_left = 0
            if line:
                raise UnsoundError("a chunk of another length than it says")
        elif self._chunk_left < 0:
            if not line:
                self._end(np.frombuffer(self._pieces, np.uint8), b"")
        else:
            found = _CHUNK.fullmatch(line)
            if found is None:
                raise UnsoundError(f"a chunk of length {line[:20]!r}")
            size = int(found.group(1), 16)
            self._check_size(len(self._pieces) + size)
            self._chunk_left = size + 2 if size else -1

    def _add(self, data: bytes) -> None:
        self._check_size(len(self._pieces) + len(data))
        self._pieces += data

    def _check_size(self, nbytes: int) -> None:
        if nbytes > self._limit:
            assert self._head is not None
            raise RemoteError(
                f"{self._server}: an answer of {nbytes} bytes is over this client's limit of {self._limit}; "
                "ask for fewer outputs",
                self._head.status,
            )

    def _end(self, body: Bytes, rest: bytes) -> None:
        assert self._head is not None
        self.answer = HttpAnswer(self._head.status, self._head.headers, body)
        self.is_reusable = self._head.is_kept and not rest


@lru_cache(maxsize=64)
def _parsed_head(data: bytes) -> _Head:
    """A head; most answers of a server have one of a few."""
    first, *lines = data.split(b"\r\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        raise UnsoundError(f"status line {first[:40]!r}")
    if len(lines) > _MAX_HEADERS:
        raise UnsoundError(f"over {_MAX_HEADERS} headers")
    headers: Dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise UnsoundError(f"header {line[:40]!r}")
        name, value = header.group(1).decode().lower(), header.group(2).decode("latin-1").rstrip(" \t")
        if headers.get(name, value) != value and name in ("content-length", "transfer-encoding"):
            raise UnsoundError(f"two headers {name}")
        headers[name] = value
    return _head(int(found.group(2)), headers, is_old=found.group(1) == b"0")


def _head(status: int, headers: Dict[str, str], is_old: bool) -> _Head:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None and (coding.lower() != "chunked" or length is not None):
        raise UnsoundError(f"transfer coding {coding[:40]!r}")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
        raise UnsoundError(f"length {length[:40]!r}")
    options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    is_kept = "keep-alive" in options if is_old else "close" not in options
    if status in _BODILESS or status < 200:
        return _Head(status, headers, is_kept, is_chunked=False, length=0)
    return _Head(
        status, headers, is_kept, is_chunked=coding is not None, length=None if length is None else int(length)
    )
