"""Frames of HTTP/2 (RFC 9113, section 4.1 and 6) as bytes."""

from __future__ import annotations

import struct
from typing import Dict

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x01
END_HEADERS = 0x04
PADDED = 0x08
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_NBYTES = 9
LAST_STREAM = WINDOW_LIMIT = 2**31 - 1
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384

HEADER = struct.Struct(">BHBBL")  # length in two parts, type, flags, stream
SETTING = struct.Struct(">HL")
WORD = struct.Struct(">L")
_PING_ACK = struct.pack(">BHBBL", 0, 8, PING, ACK, 0)
SETTINGS_ACK = struct.pack(">BHBBL", 0, 0, SETTINGS, ACK, 0)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    length = len(payload)
    return HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id) + payload


def data_header(length: int, stream_id: int) -> bytes:
    """The head of a DATA frame that doesn't end its stream."""
    return HEADER.pack(length >> 16, length & 0xFFFF, DATA, 0, stream_id)


def settings(values: Dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*item) for item in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    """Lets the client send that many more bytes; stream 0 is the connection."""
    return HEADER.pack(0, 4, WINDOW_UPDATE, 0, stream_id) + WORD.pack(increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Ends a stream."""
    return HEADER.pack(0, 4, RST_STREAM, 0, stream_id) + WORD.pack(code)


def goaway(last_stream_id: int, code: int, text: str = "") -> bytes:
    """Says which streams were taken in, and why no others will be."""
    return frame(GOAWAY, 0, 0, WORD.pack(last_stream_id) + WORD.pack(code) + text.encode()[:200])


def ping(payload: bytes) -> bytes:
    """Asks the client for a sign of life."""
    return frame(PING, 0, 0, payload)


def ping_ack(payload: bytes) -> bytes:
    """Gives a sign of life."""
    return _PING_ACK + payload
