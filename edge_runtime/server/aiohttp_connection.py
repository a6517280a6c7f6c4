"""Connections of the HTTP server on aiohttp: time limits, and errors of the framework in the protocol's form."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from edge_runtime.server.access import Access
from edge_runtime.server.aiohttp_server import AiohttpRoutes, response, trace_of
from edge_runtime.server.clients import client_of
from edge_runtime.server.live.feed import LiveFeed
from edge_runtime.server.models import ModelTable
from edge_runtime.server.origin import origin_fields
from edge_runtime.server.region_access import RegionAccess
from edge_runtime.server.routes import json_answer
from edge_runtime.server.settings import ServerSettings
from edge_runtime.wire.inference import clipped

logger = logging.getLogger(__name__)

_LINGER_S = 2.0  # so long the rest of a refused body is read, for the client to see why
_MAX_PIPELINED = 1000  # newer versions of aiohttp stop reading much earlier


class AiohttpServer(web.Server):
    """A protocol factory for `loop.create_server`."""

    def __init__(
        self, models: ModelTable, settings: ServerSettings, regions: RegionAccess, access: Access, live: LiveFeed
    ) -> None:
        self._routes = AiohttpRoutes(models, settings, regions, access, live)
        self._idle_timeout_s = settings.idle_timeout_s
        self.reading_timeout_s = settings.body_timeout_s
        super().__init__(self._answer, handler_cancellation=True)

    def __call__(self) -> RequestHandler:
        """The handler of one connection."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=self._idle_timeout_s,
            lingering_time=_LINGER_S,
        )

    async def close(self, timeout_s: float) -> None:
        """Closes every connection, at the latest after `timeout_s`."""
        self.pre_shutdown()
        await self.shutdown(timeout_s)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(_Connection, request.protocol)
        connection.begin(request.content)
        return await self._routes.answer(request, connection.client)


class _Connection(RequestHandler):
    """One connection, which is closed if its first head doesn't arrive in time, and whose errors are JSON."""

    __slots__ = ("_content", "_first_head_timer", "_reader_timer", "client")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the time that the first head has; for later ones, the time since the last answer counts."""
        super().connection_made(transport)
        self.client = client_of(transport)
        loop = asyncio.get_running_loop()
        self._first_head_timer = loop.call_later(self.keepalive_timeout, self.force_close)
        self._content = EMPTY_PAYLOAD
        self._reader_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancels what is under way for this client."""
        self._first_head_timer.cancel()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client doesn't read: it has a while to go on, or is dropped with what it has yet to read."""
        super().pause_writing()
        if self.transport is not None:
            timeout_s = cast(AiohttpServer, self._manager).reading_timeout_s
            self._reader_timer = asyncio.get_running_loop().call_later(timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()

    def begin(self, content: StreamReader) -> None:
        """Says that a whole head arrived, which this body follows."""
        self._first_head_timer.cancel()
        self._content = content
        self._end_broken_body()

    def data_received(self, data: bytes) -> None:
        """Takes in what the client sent; one that asks ever more without waiting for answers is cut off."""
        try:
            super().data_received(data)
        except ValueError as error:  # older versions of aiohttp let those of a target's address through
            logger.debug("a request can't be parsed: %s", type(error).__name__)
            self.force_close()
            return
        if len(self._messages) > _MAX_PIPELINED:
            self.force_close()
        self._end_broken_body()

    def _end_broken_body(self) -> None:
        """Tells who reads a body that the parser failed inside it; aiohttp's own parser in C leaves them waiting."""
        is_broken = self._messages and not isinstance(self._messages[-1][0], RawRequestMessage)
        if is_broken and not self._content.is_eof():
            self._content.set_exception(web.RequestPayloadError())
            self._content.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """The answer to a broken head, or to a failure of ours, which is logged."""
        traceparent = trace_of(request) if status >= 500 else None  # a broken head has no headers to look at
        if status >= 500:
            origin = origin_fields(None, traceparent)
            logger.error("%s %s failed", request.method, clipped(request.path), exc_info=exc, extra=origin)
        text = "internal error" if status >= 500 else "not a valid HTTP request"
        answer = response(json_answer({"error": text}, status).traced(traceparent))
        answer.force_close()
        return answer
