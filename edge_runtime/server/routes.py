"""The Open Inference Protocol's HTTP routes, whatever carries them; inference alone is the transport's own."""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass, field, replace
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Tuple, Union
from urllib.parse import unquote

from edge_runtime.errors import (
    EdgeRuntimeError,
    InvalidRequestError,
    ServerUnavailableError,
    UnauthenticatedError,
    UnknownNameError,
)
from edge_runtime.server.access import Access
from edge_runtime.server.administration_requests import AdministrationHandler
from edge_runtime.server.administration_requests import http_handlers as administration_handlers
from edge_runtime.server.live.feed import LiveFeed, live_feed
from edge_runtime.server.live.page import live_page
from edge_runtime.server.metrics import metrics_page
from edge_runtime.server.models import ModelTable, ServedModel, server_metadata
from edge_runtime.server.origin import TRACEPARENT
from edge_runtime.server.prometheus import CONTENT_TYPE
from edge_runtime.server.region_access import NO_REGIONS, RegionAccess
from edge_runtime.server.region_requests import HttpHandler, http_handlers
from edge_runtime.wire.inference import clipped
from edge_runtime.wire.status import public_text, status_of

logger = logging.getLogger(__name__)

JSON = "application/json"
_MODEL = r"v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_EVENTS = r"live/events"
_OF_A_MODEL = r"models/[^/]+(?:/versions/[^/]+)?/(?:trace|generate|generate_stream)"
_UNSUPPORTED = rf"v2/(?:cudasharedmemory|trace|{_OF_A_MODEL})(?:/.*)?"


class HttpRefusedError(InvalidRequestError):
    """A refusal for which only HTTP has a status."""

    def __init__(self, message: str, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True)
class HttpAnswer:
    """A whole answer."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Dict[str, str] = field(default_factory=dict)

    def traced(self, traceparent: str | None) -> HttpAnswer:
        """The same answer to a request of that trace; None: of none."""
        return self if traceparent is None else replace(self, headers={**self.headers, TRACEPARENT: traceparent})


@dataclass(frozen=True)
class InferRoute:
    """An inference is asked for."""

    model: ServedModel
    version: str


@dataclass(frozen=True)
class EventsRoute:
    """Server-sent events are asked for: `watch` sends them, from the next turn on, until what it gives is called."""

    watch: Callable[[Callable[[bytes], None]], Callable[[], None]]


@dataclass(frozen=True)
class LaterAnswer:
    """An answer that takes a while: `made` gives it, called once."""

    made: Callable[[], Awaitable[HttpAnswer]]


Answering = Callable[[bytes], Union[HttpAnswer, LaterAnswer]]
Handler = Callable[["re.Match[str]", bytes], Union[HttpAnswer, LaterAnswer]]
Route = Union[InferRoute, EventsRoute, Answering]


class HttpRoutes:
    """What each path answers."""

    def __init__(
        self,
        models: ModelTable,
        regions: RegionAccess = NO_REGIONS,
        access: Access | None = None,
        live: LiveFeed | None = None,
    ) -> None:
        self._models = models
        self._access = Access() if access is None else access
        self._feed = live_feed(models) if live is None else live
        self._has_regions = regions.is_on
        of_regions = [(method, path, _region_answer(handler)) for method, path, handler in http_handlers(regions)]
        of_administration = [
            (method, path, _administration_answer(handler)) for method, path, handler in administration_handlers(models)
        ]
        self._routes: List[Tuple[str, re.Pattern[str], Handler | None]] = [
            (method, re.compile(pattern), handler)
            for method, pattern, handler in (
                ("GET", r"v2/health/live", self._live),
                ("GET", r"v2/health/ready", self._ready),
                ("GET", r"v2/?", self._server_metadata),
                ("POST", rf"{_MODEL}/infer", None),
                ("GET", rf"{_MODEL}/ready", self._model_ready),
                ("GET", rf"{_MODEL}/config", self._model_config),
                ("GET", rf"{_MODEL}/stats", self._model_statistics),
                ("GET", r"v2/models/stats", self._all_statistics),
                ("GET", _MODEL, self._model_metadata),
                ("GET", r"metrics", self._metrics),
                ("GET", r"", self._page),
                ("HEAD", r"", self._page),
                ("GET", r"live", self._snapshot),
                ("GET", _EVENTS, None),
                *of_regions,
                *of_administration,
                ("GET", _UNSUPPORTED, _refuse_extension),
                ("POST", _UNSUPPORTED, _refuse_extension),
            )
        ]

    def find(self, method: str, target: str) -> Route:
        """What answers a request: an inference of a model, events, or a function from the body to the answer.

        `target` is the request line's: a path, still quoted, perhaps behind a scheme and host, perhaps with a query.

        Raises:
            UnknownNameError: there is no such path, or model.
            HttpRefusedError: the path takes other methods.
        """
        path = path_of(target)
        allowed = []
        for own_method, pattern, handler in self._routes:
            match = pattern.fullmatch(path)
            if match and own_method == method:
                return self._route(match, handler)
            if match:
                allowed.append(own_method)
        if not allowed:
            raise UnknownNameError(f"no such path: {clipped(path)}")
        text = f"method {clipped(method)} isn't allowed here; allowed: {', '.join(allowed)}"
        raise HttpRefusedError(text, 405, {"Allow": ", ".join(allowed)})

    def _route(self, match: re.Match[str], handler: Handler | None) -> Route:
        if handler is None and match.re.pattern == _EVENTS:
            return EventsRoute(self._feed.watch)
        if handler is None:
            return InferRoute(self._model(match, is_to_run=True), unquote(match["version"] or ""))
        return lambda body: handler(match, body)

    def _model(self, match: re.Match[str], is_to_run: bool = False) -> ServedModel:
        return self._models.find(unquote(match["model"]), unquote(match["version"] or ""), is_to_run)

    def _live(self, _: re.Match[str], __: bytes) -> HttpAnswer:
        return json_answer({"live": True})

    def _ready(self, _: re.Match[str], __: bytes) -> HttpAnswer:
        self._models.check_healthy()
        return json_answer({"ready": True})

    def _server_metadata(self, _: re.Match[str], __: bytes) -> HttpAnswer:
        return json_answer(server_metadata(self._has_regions, self._models.administration.log is not None))

    def _model_metadata(self, match: re.Match[str], _: bytes) -> HttpAnswer:
        return json_answer(self._model(match).metadata())

    def _model_ready(self, match: re.Match[str], _: bytes) -> HttpAnswer:
        name = self._model(match).name
        self._models.check_healthy(name)
        return json_answer({"name": name, "ready": True})

    def _model_config(self, match: re.Match[str], _: bytes) -> HttpAnswer:
        return json_answer(self._model(match).config())

    def _model_statistics(self, match: re.Match[str], _: bytes) -> HttpAnswer:
        return json_answer({"model_stats": [self._model(match).statistics_record()]})

    def _all_statistics(self, _: re.Match[str], __: bytes) -> HttpAnswer:
        return json_answer({"model_stats": [model.statistics_record() for model in self._models]})

    def _page(self, _: re.Match[str], __: bytes) -> HttpAnswer:
        document, headers = live_page()
        return HttpAnswer(document, content_type="text/html; charset=utf-8", headers=headers)

    def _snapshot(self, _: re.Match[str], __: bytes) -> HttpAnswer:
        return HttpAnswer(self._feed.document(), headers={"Cache-Control": "no-store"})

    def _metrics(self, _: re.Match[str], __: bytes) -> HttpAnswer:
        models, board = self._models, self._feed.board.read()
        page = metrics_page(models, not models.problem(), self._access.refused, board, models.metrics)
        return HttpAnswer(page.encode(), content_type=CONTENT_TYPE)


def path_of(target: str) -> str:
    """The path in a request line's target, still quoted, without slashes before it: what routes are matched with."""
    path = _ABSOLUTE.sub("", target, count=1) if target[:1] != "/" else target
    return path.partition("?")[0].partition("#")[0].lstrip("/")


def _region_answer(handler: HttpHandler) -> Callable[[re.Match[str], bytes], HttpAnswer]:
    def answer(match: re.Match[str], body: bytes) -> HttpAnswer:
        return json_answer(handler(unquote(match.groupdict().get("region") or ""), body))

    return answer


def _administration_answer(handler: AdministrationHandler) -> Handler:
    def answer(match: re.Match[str], body: bytes) -> LaterAnswer:
        async def made() -> HttpAnswer:
            return json_answer(await handler(unquote(match.groupdict().get("model") or ""), body))

        return LaterAnswer(made)

    return answer


def _refuse_extension(match: re.Match[str], _: bytes) -> HttpAnswer:
    raise HttpRefusedError(f"{clipped('/' + match.string)} belongs to an extension that isn't supported", 501)


def json_answer(content: Any, status: int = 200, headers: Dict[str, str] | None = None) -> HttpAnswer:
    """An answer of JSON."""
    return HttpAnswer(json.dumps(content).encode(), status, JSON, headers or {})


def refusal(error: EdgeRuntimeError, origin: Callable[[], Dict[str, str]] = dict) -> HttpAnswer:
    """The protocol's error; what isn't the client's doing is logged, and not told. `origin` is where it comes from."""
    status = error.status if isinstance(error, HttpRefusedError) else status_of(error)[0]
    headers: Dict[str, str] = {}
    if isinstance(error, HttpRefusedError):
        headers.update(error.headers)
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = 'Bearer realm="edge_runtime"'
    if isinstance(error, ServerUnavailableError):
        headers.update(retry_headers(error))
    if status == 500:
        logger.error("%s: %s", type(error).__name__, error, extra=origin())
    elif logger.isEnabledFor(logging.DEBUG):
        logger.debug("refused with %d: %s", status, error, extra=origin())
    return json_answer({"error": public_text(error)}, status, headers)


def retry_headers(error: ServerUnavailableError) -> Dict[str, str]:
    """When to try again: in whole seconds, as HTTP has it, and in milliseconds for our own client; and which error."""
    return {
        "Retry-After": str(max(1, math.ceil(error.retry_after_s))),
        "Retry-After-Ms": str(math.ceil(error.retry_after_s * 1000)),
        "Edge-Runtime-Error": type(error).__name__,
    }


def accepted_coding(accepted: str) -> str | None:
    """The compression (`gzip` or `deflate`) that an Accept-Encoding header asks for; weight 0 refuses one."""
    offers = [item.replace(" ", "").lower().partition(";q=") for item in accepted.split(",")]
    names = {name for name, _, weight in offers if not weight or weight.strip("0.")}
    return next((coding for coding in ("gzip", "deflate") if coding in names), None)


def head_nbytes_of(text: str | None) -> int | None:
    """The number in an Inference-Header-Content-Length header; None without one.

    Raises:
        InvalidRequestError: it is none.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidRequestError(f"Inference-Header-Content-Length: expected a number of bytes, got {clipped(text)}")
    return int(text)
