"""Reading a request's body within limits of size and time, and undoing its compression."""

from __future__ import annotations

import asyncio
import zlib
from typing import List

from aiohttp import web

from edge_runtime.errors import InvalidRequestError, TooLargeError
from edge_runtime.server.settings import ServerSettings

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class UnsupportedEncodingError(InvalidRequestError):
    """A Content-Encoding that isn't gzip or deflate: 415."""


class BodyTimeoutError(InvalidRequestError):
    """The body didn't arrive in time: 408."""


async def read_body(request: web.BaseRequest, settings: ServerSettings) -> memoryview:
    """The whole body, decompressed.

    Raises:
        TooLargeError: it is, or says that it will be, over the limit.
        BodyTimeoutError: it took too long.
        InvalidRequestError: its compression is broken or unknown.
    """
    limit = settings.max_request_bytes
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity" and encoding not in _WINDOW_BITS:
        raise UnsupportedEncodingError("Content-Encoding: expected gzip, deflate or none")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    try:
        body = await asyncio.wait_for(_received(request, limit), settings.body_timeout_s)
    except asyncio.TimeoutError:
        raise BodyTimeoutError(f"the body didn't arrive within {settings.body_timeout_s:g} s") from None
    return memoryview(body if encoding == "identity" else _decompressed(body, encoding, limit))


async def _received(request: web.BaseRequest, limit: int) -> bytes:
    chunks: List[bytes] = []
    nbytes = 0
    async for chunk in request.content.iter_any():
        nbytes += len(chunk)
        if nbytes > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        data = stream.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidRequestError(f"the body isn't {encoding} data") from None
    if len(data) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        raise InvalidRequestError(f"the body isn't one whole {encoding} stream")
    return data


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the request is over {limit} bytes")
