"""Reading a request's body within limits of size and time, and undoing its compression."""

from __future__ import annotations

import asyncio
import zlib
from typing import Mapping

from aiohttp import StreamReader, web

from edge_runtime.errors import InvalidRequestError, TooLargeError
from edge_runtime.server.settings import ServerSettings

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class HttpRefusedError(InvalidRequestError):
    """A refusal for which only HTTP has a status."""

    def __init__(self, message: str, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


async def read_body(request: web.BaseRequest, settings: ServerSettings) -> memoryview:
    """The whole body, decompressed.

    Raises:
        TooLargeError: it is, or says that it will be, over the limit.
        InvalidRequestError: its framing or compression is broken.
        HttpRefusedError: its compression is unknown, or it took too long.
    """
    limit = settings.max_request_bytes
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity" and encoding not in _WINDOW_BITS:
        raise HttpRefusedError("Content-Encoding: expected gzip, deflate or none", 415)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    loop = asyncio.get_running_loop()
    timer = loop.call_later(settings.body_timeout_s, request.content.set_exception, asyncio.TimeoutError())
    try:
        body = await _received(request.content, limit)
    except web.RequestPayloadError:
        raise InvalidRequestError("the body isn't framed as HTTP says") from None
    except asyncio.TimeoutError:
        raise HttpRefusedError(f"the body didn't arrive within {settings.body_timeout_s:g} s", 408) from None
    finally:
        timer.cancel()
    if encoding == "identity":
        return memoryview(body)
    return memoryview(await loop.run_in_executor(None, _decompressed, body, encoding, limit))


async def _received(content: StreamReader, limit: int) -> bytearray:
    body = bytearray()
    while not content.at_eof():
        body += await content.readany()
        if len(body) > limit:
            raise _too_large(limit)
    return body


def _decompressed(body: bytearray, encoding: str, limit: int) -> bytes:
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
