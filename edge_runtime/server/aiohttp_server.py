"""The Open Inference Protocol over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any, Awaitable, Callable, List, Tuple
from urllib.parse import unquote

from aiohttp import web

from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError, UnknownNameError
from edge_runtime.server.http_body import HttpRefusedError, read_body
from edge_runtime.server.metrics import CONTENT_TYPE, metrics_page
from edge_runtime.server.models import ModelTable, server_metadata
from edge_runtime.server.settings import ServerSettings
from edge_runtime.wire.http_infer import HEAD_LENGTH, body_from_answer, request_from_body
from edge_runtime.wire.inference import InferAnswer, InferRequest, clipped
from edge_runtime.wire.json_text import parsed_object
from edge_runtime.wire.status import public_text, status_of

logger = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest, "re.Match[str]"], Awaitable[web.Response]]

_LARGE_JSON_NBYTES = 1 << 20
_LARGE_ANSWER_NBYTES = 1 << 16
_SERVER = {"Server": "edge_runtime"}
_MODEL = r"v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_UNSUPPORTED = r"v2/(?:(?:system|cuda)sharedmemory|logging|trace|models/[^/]+/trace|repository/models)(?:/.*)?"


def json_response(content: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    headers = {"Content-Type": "application/json", **_SERVER}
    return web.Response(body=json.dumps(content).encode(), status=status, headers=headers)


def error_response(text: str, status: int) -> web.Response:
    """The protocol's error."""
    response = json_response({"error": text}, status)
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


class HttpRoutes:
    """What each path answers."""

    def __init__(self, models: ModelTable, settings: ServerSettings) -> None:
        self._models = models
        self._settings = settings
        self._routes: List[Tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(pattern), handler)
            for method, pattern, handler in (
                ("GET", r"v2/health/live", self._live),
                ("GET", r"v2/health/ready", self._ready),
                ("GET", r"v2/?", self._server_metadata),
                ("POST", rf"{_MODEL}/infer", self._infer),
                ("GET", rf"{_MODEL}/ready", self._model_ready),
                ("GET", rf"{_MODEL}/config", self._model_config),
                ("GET", rf"{_MODEL}/stats", self._model_statistics),
                ("GET", r"v2/models/stats", self._all_statistics),
                ("GET", _MODEL, self._model_metadata),
                ("POST", r"v2/repository/index", self._repository_index),
                ("GET", r"metrics", self._metrics),
                ("GET", _UNSUPPORTED, _refuse_extension),
                ("POST", _UNSUPPORTED, _refuse_extension),
            )
        ]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request; what the client did wrong is told, what we did is logged."""
        try:
            return await self._routed(request)
        except EdgeRuntimeError as error:
            response = _refusal(error)
        if not request.content.at_eof() or request.content.exception() is not None:
            response.force_close()  # nobody reads what is left of the body
        return response

    async def _routed(self, request: web.BaseRequest) -> web.Response:
        path = request.rel_url.raw_path.lstrip("/")
        allowed = []
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(path)
            if match and method == request.method:
                return await handler(request, match)
            if match:
                allowed.append(method)
        if not allowed:
            raise UnknownNameError(f"no such path: {clipped(path)}")
        text = f"method {clipped(request.method)} isn't allowed here; allowed: {', '.join(allowed)}"
        raise HttpRefusedError(text, 405, {"Allow": ", ".join(allowed)})

    def _model(self, match: re.Match[str]) -> Any:
        name, version = match["model"], match["version"] or ""
        return self._models.find(unquote(name), unquote(version))

    async def _live(self, _: web.BaseRequest, __: re.Match[str]) -> web.Response:
        return json_response({"live": True})

    async def _ready(self, _: web.BaseRequest, __: re.Match[str]) -> web.Response:
        self._models.check_ready()
        return json_response({"ready": True})

    async def _server_metadata(self, _: web.BaseRequest, __: re.Match[str]) -> web.Response:
        return json_response(server_metadata())

    async def _model_metadata(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return json_response(self._model(match).metadata())

    async def _model_ready(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        name = self._model(match).name
        self._models.check_ready()
        return json_response({"name": name, "ready": True})

    async def _model_config(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return json_response(self._model(match).config())

    async def _model_statistics(self, _: web.BaseRequest, match: re.Match[str]) -> web.Response:
        return json_response({"model_stats": [self._model(match).statistics_record()]})

    async def _all_statistics(self, _: web.BaseRequest, __: re.Match[str]) -> web.Response:
        return json_response({"model_stats": [model.statistics_record() for model in self._models]})

    async def _repository_index(self, request: web.BaseRequest, _: re.Match[str]) -> web.Response:
        body = await read_body(request, self._settings)
        is_ready_only = parsed_object(body).get("ready", False) if body else False
        if not isinstance(is_ready_only, bool):
            raise InvalidRequestError("ready: expected true or false")
        return json_response(self._models.index(is_ready_only))

    async def _metrics(self, _: web.BaseRequest, __: re.Match[str]) -> web.Response:
        text = metrics_page(self._models, self._models.is_ready)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE, **_SERVER})

    async def _infer(self, request: web.BaseRequest, match: re.Match[str]) -> web.Response:
        model = self._model(match)
        self._models.check_admission(model)
        with model.counting_refusals():
            head_nbytes = _head_nbytes(request)
            body = await read_body(request, self._settings)
            with self._models.admission(model):
                arrival_ns = model.executor.now_ns()
                received = await _decoded(body, head_nbytes, model, match)
                nbytes, payload = await model.infer(received, arrival_ns, lambda answer: _encoded(answer, received))
        headers = {"Content-Type": "application/json", **_SERVER}
        if nbytes is not None:
            headers.update({"Content-Type": "application/octet-stream", HEAD_LENGTH: str(nbytes)})
        response = web.Response(body=payload, headers=headers, zlib_executor_size=_LARGE_ANSWER_NBYTES)
        coding = _accepted_coding(request.headers.get("Accept-Encoding", ""))
        if coding is not None:
            response.enable_compression(coding)
        return response


async def _refuse_extension(request: web.BaseRequest, _: re.Match[str]) -> web.Response:
    raise HttpRefusedError(f"{clipped(request.rel_url.raw_path)} belongs to an extension that isn't supported", 501)


def _accepted_coding(accepted: str) -> web.ContentCoding | None:
    """The compression that an Accept-Encoding header asks for; weight 0 refuses one."""
    offers = [item.replace(" ", "").lower().partition(";q=") for item in accepted.split(",")]
    names = {name for name, _, weight in offers if not weight or weight.strip("0.")}
    codings = (web.ContentCoding.gzip, web.ContentCoding.deflate)
    return next((coding for coding in codings if coding.value in names), None)


async def _decoded(body: memoryview, head_nbytes: int | None, model: Any, match: re.Match[str]) -> InferRequest:
    """The request in the body; a long JSON text is read on another thread, so that others needn't wait."""
    arguments = (body, head_nbytes, model.name, match["version"] or "", model.engine.signature)
    json_nbytes = len(body) if head_nbytes is None else min(head_nbytes, len(body))
    if json_nbytes <= _LARGE_JSON_NBYTES:
        return request_from_body(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, request_from_body, *arguments)


def _encoded(answer: InferAnswer, received: InferRequest) -> Tuple[int | None, bytes]:
    return body_from_answer(answer, received.outputs)


def _head_nbytes(request: web.BaseRequest) -> int | None:
    text = request.headers.get(HEAD_LENGTH)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise InvalidRequestError(f"{HEAD_LENGTH}: expected a number of bytes, got {clipped(text)}")
    return int(text)


def _refusal(error: EdgeRuntimeError) -> web.Response:
    status = error.status if isinstance(error, HttpRefusedError) else status_of(error)[0]
    if status == 500:
        logger.error("%s: %s", type(error).__name__, error)
    response = error_response(public_text(error), status)
    if isinstance(error, HttpRefusedError):
        response.headers.update(error.headers)
    return response
