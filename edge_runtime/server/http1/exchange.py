"""One HTTP request and its answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import Any, Awaitable, Callable, Dict, Hashable, Protocol

from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError, RequestError
from edge_runtime.scheduling.request import DELIVERED, Outputs, Request
from edge_runtime.server.compression import check_encoding, decompressed
from edge_runtime.server.direct_socket import BROKEN
from edge_runtime.server.http1.head import RequestHead
from edge_runtime.server.http1.known import KnownInference, known_inference
from edge_runtime.server.http1.reader import RequestReader
from edge_runtime.server.http1.writer import AnswerWriter
from edge_runtime.server.http_inference import InferBody, infer_answer
from edge_runtime.server.models import ModelTable
from edge_runtime.server.origin import origin_fields
from edge_runtime.server.region_access import RegionAccess, RegionUse
from edge_runtime.server.routes import EventsRoute, HttpAnswer, InferRoute, Route, json_answer, refusal
from edge_runtime.wire.http_infer import InferHead
from edge_runtime.wire.inference import clipped
from edge_runtime.wire.json_text import parsed_object

logger = logging.getLogger(__name__)

_SHORT_HEAD_NBYTES = 1 << 14
_KNOWN_NBYTES = 1 << 11
_KNOWN_HEADS = 16
_PLAIN_BODY_NBYTES = 1 << 20


class Serving(Protocol):
    """The server, as a request sees it."""

    models: ModelTable
    regions: RegionAccess
    max_body_nbytes: int

    def route(self, head: RequestHead) -> Route:
        """What answers a request; raises RequestError."""


class Exchange:
    """A whole request that is answered at once, or by the time that `answered` is called."""

    __slots__ = (
        "_answered",
        "_arrival_ns",
        "_client",
        "_end",
        "_head",
        "_leave",
        "_model",
        "_request",
        "_server",
        "_shared",
        "_start",
        "_task",
        "_writer",
        "data",
    )

    def __init__(
        self,
        writer: AnswerWriter,
        answered: Callable[[], None],
        server: Serving,
        reader: RequestReader,
        arrival_ns: int,
        client: Hashable = None,
    ) -> None:
        assert reader.head is not None
        self._writer = writer
        self._answered = answered
        self._server = server
        self._head: RequestHead = reader.head
        self._arrival_ns = arrival_ns
        self._client = client
        self.data = reader.body
        self._start, self._end = reader.body_start, reader.body_end
        if reader.buffer.start != reader.buffer.end:
            writer.is_pipelined = True
        self._model: Any = None
        self._request: Request | None = None
        self._shared: RegionUse | None = None
        self._task: asyncio.Task[None] | None = None
        self._leave: Callable[[], None] | None = None

    def begin(self) -> bool:
        """Answers the request, or begins to: True if it is under way now."""
        head = self._head
        try:
            route = self._server.route(head)
            if isinstance(route, InferRoute):
                self._model = route.model
                return self._infer(route)
            if isinstance(route, EventsRoute):
                self._leave = route.watch(self._writer.event)
                self._writer.begin_events(head.traceparent)
                return True
            answer = route(self._plain_body())
            if not isinstance(answer, HttpAnswer):
                self._task = asyncio.get_running_loop().create_task(self._answer(answer.made))
                return True
        except EdgeRuntimeError as error:
            answer = self._refused(error)
        except Exception as error:  # noqa: BLE001  (the top frame of a request)
            answer = self._failed(error)
        self._let_go()
        self._writer.end_offer()
        self._writer.answer(answer.traced(head.traceparent), not head.keeps_alive, head.method != "HEAD")
        return False

    def cancel(self) -> None:
        """Says that the client is gone: its request won't run, or will be answered in vain if it does already."""
        self._let_go()
        if self._leave is not None:
            self._leave()
        elif self._task is not None:
            self._task.cancel()
        elif self._request is not None and self._model.cancel(self._request):
            self._model.under_way.ended()

    def go_on(self) -> None:
        """Says that the client has more to say, or is gone: calls `answered` if it has its answer already."""
        if self._request is None or not self._writer.end_offer():
            self._writer.is_pipelined = True
        else:
            self._conclude()
            self._answered()

    def emit(self, outcome: Any) -> None:
        """Writes what is left of the answer that `KnownInference.encode` made, or the refusal of an error."""
        if outcome is BROKEN:
            self._writer.abort()
        if self._request is None:  # the client went on before the loop heard of its answer
            return
        self._writer.end_offer()
        self._conclude()
        if isinstance(outcome, (bytes, memoryview)):
            self._writer.write(outcome)
        elif outcome is not DELIVERED:
            self._writer.answer(self._refused(outcome).traced(self._head.traceparent), is_last=False)
        self._answered()

    def _conclude(self) -> None:
        self._model.under_way.ended()
        self._request = None
        self._let_go()

    def _let_go(self) -> None:
        """Lets the regions of this request go."""
        if self._shared is not None:
            self._shared.close()

    def _plain_body(self) -> bytes:
        """The body of what isn't an inference."""
        body, encoding = memoryview(self.data)[self._start : self._end], self._head.encoding
        check_encoding(encoding)
        return decompressed(body, encoding, _PLAIN_BODY_NBYTES) if encoding else bytes(body)

    def _infer(self, route: InferRoute) -> bool:
        head, models = self._head, self._server.models
        models.check_admission(route.model)
        head.check_length()
        known = self._known(route) if head.keeps_alive and not head.encoding and not head.accepted else None
        if known is None:
            check_encoding(head.encoding)
            self._task = asyncio.get_running_loop().create_task(self._answer(self._infer_slowly))
            return True
        start = self._start + (head.head_nbytes or 0)
        known.head.check_length(self._end - start)
        encode: Callable[[Outputs], Any] = known.encode
        if known.head.has_regions:
            shared = self._shared = self._server.regions.use()
            inputs = known.head.arrays_with(shared, self.data, start)
            encode = partial(known.encode_with, shared)
        else:
            inputs = known.head.arrays(self.data, start)
        request = route.model.request(inputs, known.head.schedule, encode, self.emit, self._arrival_ns)
        request.client = self._client
        if not route.model.runs_here(request) and self._writer.offer():
            request.deliver = self._writer.deliver
        route.model.submit(request)
        self._request = request
        route.model.under_way.begun()
        return True

    def _known(self, route: InferRoute) -> KnownInference | None:
        """What is known of a request none of whose tensors is JSON; None for another one."""
        head_nbytes = self._head.head_nbytes or 0
        if not 0 < head_nbytes <= min(_SHORT_HEAD_NBYTES, self._end - self._start):
            return None
        text = bytes(memoryview(self.data)[self._start : self._start + head_nbytes])
        found: KnownInference | None = self._head.known.get(text)
        if found is None:
            head = InferHead(text, route.model.engine.signature)
            if not head.is_binary:
                return None
            found = known_inference(route.model, head, self._head.traceparent)
            if head_nbytes <= _KNOWN_NBYTES:
                if len(self._head.known) >= _KNOWN_HEADS:
                    self._head.known.clear()
                self._head.known[text] = found
        return found

    async def _infer_slowly(self) -> HttpAnswer:
        """The answer to a request with JSON in it, or one that is compressed, or the last of its connection."""
        head, server = self._head, self._server
        route = server.route(head)  # again: the model may have been loaded anew since
        assert isinstance(route, InferRoute)
        self._model = route.model
        data = memoryview(self.data)[self._start : self._end]
        limit = server.max_body_nbytes
        body = InferBody(data, head.encoding, head.head_nbytes, self._arrival_ns, limit, self._client)
        with server.models.admission(route.model):
            return await infer_answer(route.model, route.version, body, head.accepted, server.regions)

    async def _answer(self, made: Callable[[], Awaitable[HttpAnswer]]) -> None:
        """Answers a request by what takes a while."""
        head = self._head
        try:
            answer = await made()
        except EdgeRuntimeError as error:
            answer = self._refused(error)
        except Exception as error:  # noqa: BLE001  (the top frame of a request)
            answer = self._failed(error)
        self._writer.answer(answer.traced(head.traceparent), not head.keeps_alive, head.method != "HEAD")
        self._answered()

    def _failed(self, error: Exception) -> HttpAnswer:
        """The answer to a request that failed in a way which nobody foresaw."""
        method, target = clipped(self._head.method), clipped(self._head.target)
        logger.error("%s %s failed", method, target, exc_info=error, extra=self._origin())
        return json_answer({"error": "internal error"}, 500)

    def _refused(self, error: EdgeRuntimeError) -> HttpAnswer:
        """The refusal; a client's mistake in an inference is counted."""
        if self._model is not None and isinstance(error, RequestError):
            self._model.statistics.add_failure("OTHER", time.perf_counter_ns() - self._arrival_ns)
        return refusal(error, self._origin)

    def _origin(self) -> Dict[str, str]:
        """Its id, where a head of JSON can be read once more, and its trace."""
        head = self._head
        end = self._end if head.head_nbytes is None else min(self._end, self._start + head.head_nbytes)
        request_id: object = None
        if self._model is not None and not head.encoding and end - self._start <= _SHORT_HEAD_NBYTES:
            with contextlib.suppress(InvalidRequestError):
                request_id = parsed_object(bytes(memoryview(self.data)[self._start : end])).get("id")
        return origin_fields(request_id, head.traceparent)
