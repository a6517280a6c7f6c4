"""The routes of the Open Inference Protocol on aiohttp: the fallback for our own HTTP/1.1."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Hashable

from aiohttp import web

from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError, RequestError
from edge_runtime.server.access import Access
from edge_runtime.server.aiohttp_body import content_encoding, read_body
from edge_runtime.server.compression import decompressed
from edge_runtime.server.http_inference import InferBody, infer_answer
from edge_runtime.server.live.feed import EVENTS_HEADERS, LiveFeed
from edge_runtime.server.models import ModelTable
from edge_runtime.server.origin import TRACEPARENT, origin_fields, traceparent_of
from edge_runtime.server.region_access import RegionAccess
from edge_runtime.server.rights import is_administrative_http, is_forgeable
from edge_runtime.server.routes import (
    EventsRoute,
    HttpAnswer,
    HttpRoutes,
    InferRoute,
    accepted_coding,
    head_nbytes_of,
    path_of,
    refusal,
)
from edge_runtime.server.settings import ServerSettings
from edge_runtime.wire.http_infer import HEAD_LENGTH

_UNREAD_EVENTS = 4


def response(answer: HttpAnswer) -> web.Response:
    """An answer as aiohttp sends it."""
    headers = {"Content-Type": answer.content_type, "Server": "edge_runtime", **answer.headers}
    return web.Response(body=answer.body, status=answer.status, headers=headers)


def trace_of(request: web.BaseRequest) -> str | None:
    """Its `traceparent`; None without a sound one."""
    presented = request.headers.getall(TRACEPARENT, ())
    return traceparent_of(*[value.encode("utf-8", "surrogateescape") for value in presented])


async def _events(request: web.BaseRequest, route: EventsRoute, traceparent: str | None) -> web.StreamResponse:
    """Server-sent events until the client or the feed ends them, without those that a slow client has no time for."""
    waiting: asyncio.Queue[bytes] = asyncio.Queue()

    def send(event: bytes) -> None:
        if not event or waiting.qsize() < _UNREAD_EVENTS:
            waiting.put_nowait(event)

    leave = route.watch(send)
    try:
        sent = web.StreamResponse(headers=EVENTS_HEADERS)
        if traceparent is not None:
            sent.headers[TRACEPARENT] = traceparent
        sent.force_close()
        await sent.prepare(request)
        while True:
            event = await waiting.get()
            if not event:
                return sent
            await sent.write(event)
    finally:
        leave()


class AiohttpRoutes:
    """What each path answers."""

    def __init__(
        self, models: ModelTable, settings: ServerSettings, regions: RegionAccess, access: Access, live: LiveFeed
    ) -> None:
        self._access = access
        self._models = models
        self._regions = regions
        self._routes = HttpRoutes(models, regions, access, live)
        self._settings = settings

    async def answer(self, request: web.BaseRequest, client: Hashable) -> web.StreamResponse:
        """The answer to any request of a client; what the client did wrong is told, what we did is logged."""
        arrival_ns = time.perf_counter_ns()
        traceparent = trace_of(request)
        is_admitted = False
        try:
            client = self._admit(request) or client
            is_admitted = True
            route = self._routes.find(request.method, request.rel_url.raw_path_qs)
            if isinstance(route, InferRoute):
                answer = await self._infer(request, route, arrival_ns, client)
                return response(answer.traced(traceparent))
            if isinstance(route, EventsRoute):
                return await _events(request, route, traceparent)
            body = await read_body(request, self._settings)
            encoding, limit = content_encoding(request), self._settings.max_request_bytes
            given = route(decompressed(body, encoding, limit) if encoding else bytes(body))
            answer = given if isinstance(given, HttpAnswer) else await given.made()
            return response(answer.traced(traceparent))
        except EdgeRuntimeError as error:
            refused = response(refusal(error, partial(origin_fields, None, traceparent)).traced(traceparent))
        if not is_admitted or not request.content.at_eof() or request.content.exception() is not None:
            refused.force_close()  # a stranger's, or one of whose body nobody reads what is left
        return refused

    def _admit(self, request: web.BaseRequest) -> Hashable:
        authorization = request.headers.getall("Authorization", [])
        if len(authorization) > 1:
            raise InvalidRequestError("not a valid HTTP request")
        path = path_of(request.rel_url.raw_path_qs)
        is_administrative = is_administrative_http(request.method, path)
        is_from_page = is_forgeable(request.method, path, "Origin" in request.headers)
        presented = authorization[0].encode("utf-8", "surrogateescape") if authorization else None
        return self._access.visitor(request.transport).check(presented, is_administrative, is_from_page)

    async def _infer(
        self, request: web.BaseRequest, route: InferRoute, arrival_ns: int, client: Hashable
    ) -> HttpAnswer:
        model, models = route.model, self._models
        models.check_admission(model)
        try:
            head_nbytes = head_nbytes_of(request.headers.get(HEAD_LENGTH))
            data = await read_body(request, self._settings)
            limit = self._settings.max_request_bytes
            body = InferBody(data, content_encoding(request), head_nbytes, arrival_ns, limit, client)
            if model.is_retired:  # it was loaded anew, or unloaded, while the body came
                model = models.find(model.name, route.version, is_to_run=True)
            with models.admission(model):
                accepted = accepted_coding(request.headers.get("Accept-Encoding", ""))
                return await infer_answer(model, route.version, body, accepted, self._regions)
        except RequestError:
            model.statistics.add_failure("OTHER", time.perf_counter_ns() - arrival_ns)
            raise
