"""gzip and deflate, bounded."""

from __future__ import annotations

import zlib
from typing import Any

from edge_runtime.errors import InvalidRequestError, TooLargeError
from edge_runtime.server.routes import HttpRefusedError

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def check_encoding(encoding: str) -> None:
    """Raises HttpRefusedError for a Content-Encoding that isn't known; "" is none."""
    if encoding and encoding not in _WINDOW_BITS:
        raise HttpRefusedError("Content-Encoding: expected gzip, deflate or none", 415)


def decompressed(body: Any, encoding: str, limit: int) -> bytes:
    """The data in a compressed body.

    Raises:
        InvalidRequestError: it is broken.
        TooLargeError: it holds more than `limit` bytes.
    """
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        data = stream.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidRequestError(f"the body isn't {encoding} data") from None
    if len(data) > limit:
        raise TooLargeError(f"the request is over {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise InvalidRequestError(f"the body isn't one whole {encoding} stream")
    return data


def compressed(body: bytes, coding: str) -> bytes:
    """A body as `gzip` or `deflate`."""
    stream = zlib.compressobj(wbits=_WINDOW_BITS[coding])
    return stream.compress(body) + stream.flush()
