"""Reading a request's body through aiohttp, within limits of size and time."""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, StreamReader, web

from edge_runtime.errors import InvalidRequestError, TooLargeError
from edge_runtime.server.compression import check_encoding
from edge_runtime.server.routes import HttpRefusedError
from edge_runtime.server.settings import ServerSettings


async def read_body(request: web.BaseRequest, settings: ServerSettings) -> bytearray:
    """The whole body, as it was sent.

    Raises:
        TooLargeError: it is, or says that it will be, over the limit.
        InvalidRequestError: its framing is broken, or it was encoded for its transfer in another way than chunks.
        HttpRefusedError: its compression is unknown, or it took too long.
    """
    limit = settings.max_request_bytes
    check_encoding(content_encoding(request))
    coding = request.headers.get("Transfer-Encoding")
    if coding is not None and (coding.lower() != "chunked" or request.version < HttpVersion11):
        raise InvalidRequestError("the body isn't framed as HTTP says")  # aiohttp takes others for chunks
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    loop = asyncio.get_running_loop()
    timer = loop.call_later(settings.body_timeout_s, request.content.set_exception, asyncio.TimeoutError())
    try:
        return await _received(request.content, limit)
    except web.RequestPayloadError:
        raise InvalidRequestError("the body isn't framed as HTTP says") from None
    except asyncio.TimeoutError:
        raise HttpRefusedError(f"the body didn't arrive within {settings.body_timeout_s:g} s", 408) from None
    finally:
        timer.cancel()


def content_encoding(request: web.BaseRequest) -> str:
    """How the body is compressed, "" if it isn't."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding


async def _received(content: StreamReader, limit: int) -> bytearray:
    body = bytearray()
    while not content.at_eof():
        body += await content.readany()
        if len(body) > limit:
            raise _too_large(limit)
    return body


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the request is over {limit} bytes")
