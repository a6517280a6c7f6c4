"""All HTTP/1.1 connections of a server, and the time limits that one timer watches for them."""

from __future__ import annotations

import asyncio
import time
from typing import Set

from edge_runtime.errors import EdgeRuntimeError, PermissionDeniedError, RequestError, UnauthenticatedError
from edge_runtime.server.access import Access
from edge_runtime.server.http1.connection import HttpConnection
from edge_runtime.server.http1.head import RequestHead, RequestHeads
from edge_runtime.server.live.feed import LiveFeed
from edge_runtime.server.models import ModelTable
from edge_runtime.server.region_access import NO_REGIONS, RegionAccess
from edge_runtime.server.routes import HttpRoutes, InferRoute, Route
from edge_runtime.server.settings import ServerSettings

_LONGEST_WATCH_S = 1.0


class HttpServer:
    """A protocol factory for `loop.create_server` and `create_unix_server`."""

    def __init__(
        self,
        models: ModelTable,
        settings: ServerSettings,
        regions: RegionAccess = NO_REGIONS,
        access: Access | None = None,
        live: LiveFeed | None = None,
    ) -> None:
        self.models = models
        self.regions = regions
        self.access = Access() if access is None else access
        self.heads = RequestHeads()
        self.max_body_nbytes = settings.max_request_bytes
        self.idle_ns = round(settings.idle_timeout_s * 1e9)
        self.body_ns = round(settings.body_timeout_s * 1e9)
        self._routes = HttpRoutes(models, regions, self.access, live)
        self._connections: Set[HttpConnection] = set()
        self._watch_s = min(_LONGEST_WATCH_S, settings.idle_timeout_s / 4, settings.body_timeout_s / 4)
        self._watch: asyncio.TimerHandle | None = None
        self._none_left = asyncio.Event()
        models.changed.append(lambda _: self.heads.forget())

    def __call__(self) -> HttpConnection:
        """The handler of one connection."""
        return HttpConnection(self)

    def route(self, head: RequestHead) -> Route:
        """What answers a request.

        Raises:
            RequestError: nothing does.
        """
        if head.epoch != self.models.epoch:
            head.known, head.route = {}, None
            head.route = self._routes.find(head.method, head.target)
            head.epoch = self.models.epoch
        route: Route = head.route
        return route

    def check(self, head: RequestHead) -> None:
        """Raises for a request that its head alone shows can't be answered."""
        route = self.route(head)
        if isinstance(route, InferRoute):
            self.models.check_admission(route.model)
            head.check_length()

    def refused(self, head: RequestHead | None, error: EdgeRuntimeError, arrival_ns: int) -> None:
        """Counts an inference that was refused before it was whole."""
        route = None if head is None else head.route
        is_stranger = isinstance(error, (UnauthenticatedError, PermissionDeniedError))
        if isinstance(route, InferRoute) and isinstance(error, RequestError) and not is_stranger:
            route.model.statistics.add_failure("OTHER", time.perf_counter_ns() - arrival_ns)

    def opened(self, connection: HttpConnection) -> None:
        """Takes in a connection."""
        self._connections.add(connection)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._watch_s, self._expire)

    def lost(self, connection: HttpConnection) -> None:
        """Forgets a connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._none_left.set()
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None

    def _expire(self) -> None:
        now_ns = time.perf_counter_ns()
        self._watch = asyncio.get_running_loop().call_later(self._watch_s, self._expire)
        for connection in list(self._connections):
            if connection.expires_ns is not None and connection.expires_ns <= now_ns:
                connection.expire()

    async def close(self, timeout_s: float) -> None:
        """Closes every connection, once what is written has gone out or `timeout_s` is over."""
        for connection in list(self._connections):
            connection.writer.close()
        if self._connections:
            self._none_left.clear()
            await asyncio.wait([asyncio.ensure_future(self._none_left.wait())], timeout=timeout_s)
        for connection in list(self._connections):
            connection.writer.abort()
