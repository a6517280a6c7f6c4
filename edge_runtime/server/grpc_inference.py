"""gRPC calls that come over our own HTTP/2: inferences by a short way, the other methods at once."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Any, Awaitable, Dict, List, Set, Tuple, Union

import numpy as np

from edge_runtime.errors import EdgeRuntimeError, RequestError
from edge_runtime.scheduling.request import Outputs, Request
from edge_runtime.server.grpc_gate import check_administrator
from edge_runtime.server.grpc_methods import INFER, GrpcMethods, grpc_refusal, parsed, unknown_method
from edge_runtime.server.grpc_stream import STREAM_INFER, StreamedCall
from edge_runtime.server.http2.call import UnaryCall
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.server.origin import TRACEPARENT, origin_fields, traceparent_of
from edge_runtime.server.region_access import NO_REGIONS, RegionAccess, RegionUse
from edge_runtime.wire.elements import on_the_wire
from edge_runtime.wire.grpc_infer import MessageHead, inputs_in_regions, inputs_of, message_from_answer, response_head
from edge_runtime.wire.grpc_stream import request_id
from edge_runtime.wire.inference import InferAnswer, WantedOutput
from edge_runtime.wire.messages import message
from edge_runtime.wire.raw_message import joined_response, split_message
from edge_runtime.wire.status import INTERNAL

logger = logging.getLogger(__name__)

InferCall = Union[UnaryCall, StreamedCall]

_TRACEPARENT = TRACEPARENT.encode()
_KEPT_HEADS = 512
_KEPT_NBYTES = 1 << 11
_KEPT_ANSWERS = 64


class GrpcCalls:
    """Answers calls: the handler of a `Http2Server`."""

    def __init__(self, models: ModelTable, regions: RegionAccess = NO_REGIONS) -> None:
        self.models = models
        self._regions = regions
        self._methods = GrpcMethods(models, regions).by_path
        self._known: Dict[bytes, KnownCall] = {}
        self._in_regions: Dict[bytes, Tuple[ServedModel, MessageHead]] = {}
        self._request_class = message("inference.ModelInferRequest")
        self._later: Set[asyncio.Future[None]] = set()
        models.changed.append(self._forget)

    def __call__(self, call: UnaryCall) -> None:
        """Answers a call now, or sees to it that it will be."""
        try:
            if call.path == INFER:
                self._infer(call)
                return
            if call.path == STREAM_INFER:
                self._infer_streamed(StreamedCall(call, self.models))
                return
            method = self._methods.get(call.path)
            if method is None:
                call.fail("UNIMPLEMENTED", unknown_method(call.path))
            else:
                reply = method(call.message, partial(check_administrator, call))
                if isinstance(reply, bytes):
                    call.reply(reply)
                else:
                    answering = asyncio.ensure_future(self._reply(call, reply))
                    self._later.add(answering)
                    answering.add_done_callback(self._later.discard)
        except EdgeRuntimeError as error:
            call.fail(*grpc_refusal(error, partial(_origin, call)))
        except Exception:  # the top frame of a call
            logger.exception("a gRPC call failed", extra=_origin(call))
            call.fail(INTERNAL[1], "internal error")

    async def _reply(self, call: UnaryCall, reply: Awaitable[bytes]) -> None:
        """Answers a call by what takes a while; in vain, if the client has gone by then."""
        try:
            call.reply(await reply)
        except EdgeRuntimeError as error:
            call.fail(*grpc_refusal(error, partial(_origin, call)))
        except Exception:  # the top frame of a call
            logger.exception("a gRPC call failed", extra=_origin(call))
            call.fail(INTERNAL[1], "internal error")

    def _forget(self, _: ServedModel | None) -> None:
        """Looks models up anew from here on."""
        self._known.clear()
        self._in_regions.clear()

    def _infer_streamed(self, call: StreamedCall) -> None:
        try:
            self._infer(call)
        except EdgeRuntimeError as error:
            call.fail(*grpc_refusal(error, partial(_origin, call)))

    def _infer(self, call: InferCall) -> None:
        found = split_message(memoryview(call.message))
        if found is None:
            self._infer_typed(call)
            return
        text, raw = bytes(found[0]), found[1]
        known = self._known.get(text)
        if known is None:
            received = parsed(text, self._request_class)
            model = self.models.find(received.model_name, received.model_version, is_to_run=True)
            if any(tensor.HasField("contents") for tensor in received.inputs):
                self._infer_typed(call)
                return
            head = self._checked_head(call, model, received)
            if head.has_regions:
                self._infer_typed(call)
                return
            known = KnownCall(model, head)
            if len(text) <= _KEPT_NBYTES:
                if len(self._known) >= _KEPT_HEADS:
                    self._known.clear()
                self._known[text] = known
        self.models.check_admission(known.model)
        try:
            inputs = known.head.arrays(raw)
        except RequestError:
            _count(known.model, call)
            raise
        _Exchange(known, call).begin(inputs)

    def _checked_head(self, call: InferCall, model: ServedModel, received: Any) -> MessageHead:
        self.models.check_admission(model)
        try:
            return MessageHead(received, model.engine.signature)
        except RequestError:
            _count(model, call)
            raise

    def _infer_typed(self, call: InferCall) -> None:
        """Runs a request whose tensors aren't all raw bytes in the message."""
        text = bytes(call.message) if len(call.message) <= _KEPT_NBYTES else b""
        model, head = self._in_regions.get(text, (None, None))
        received: Any = None
        if model is None or head is None:
            received = parsed(call.message, self._request_class)
            model = self.models.find(received.model_name, received.model_version, is_to_run=True)
            head = self._checked_head(call, model, received)
        else:
            self.models.check_admission(model)
        shared = self._regions.use()
        try:
            inputs = inputs_in_regions(head, shared) if received is None else inputs_of(received, head, shared)
            _TypedExchange(TypedCall(model, head, shared), call).begin(inputs)
        except BaseException as error:
            shared.close()
            if isinstance(error, RequestError):
                _count(model, call)
            raise
        if received is not None and text and head.is_all_in_regions:
            if len(self._in_regions) >= _KEPT_HEADS:
                self._in_regions.clear()
            self._in_regions[text] = model, head


def _origin(call: InferCall) -> Dict[str, str]:
    """Its request's id, and its trace."""
    presented = [value for name, value in call.metadata if name == _TRACEPARENT]
    is_inference = isinstance(call, StreamedCall) or call.path in (INFER, STREAM_INFER)
    return origin_fields(request_id(call.message) if is_inference else None, traceparent_of(*presented))


def _count(model: ServedModel, call: InferCall) -> None:
    model.statistics.add_failure("OTHER", time.perf_counter_ns() - call.arrival_ns)


class KnownCall:
    """Requests to one model that say the same but for the tensors' bytes."""

    __slots__ = ("_answers", "_rung", "head", "model")

    def __init__(self, model: ServedModel, head: MessageHead) -> None:
        self.model = model
        self._rung = model.place.label
        self.head = head
        self._answers: Dict[Tuple[Any, ...], bytes] = {}

    def encode(self, outputs: Outputs) -> bytes:
        """The response message: what it says, made once for every set of shapes, and a copy of the outputs."""
        wanted: Tuple[WantedOutput, ...] = self.head.outputs
        arrays: List[Any] = [outputs[output.name] for output in wanted]
        shapes = tuple([array.shape for array in arrays])
        head = self._answers.get(shapes)
        if head is None:
            answer = InferAnswer(self.model.name, self.model.version, self.head.id, outputs, self._rung)
            head = response_head(answer, wanted).SerializeToString()
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            self._answers[shapes] = head
        return joined_response(
            head,
            [array if array.flags.c_contiguous and array.dtype.kind != "O" else _contiguous(array) for array in arrays],
        )


def _contiguous(array: Any) -> Any:
    return np.ascontiguousarray(on_the_wire(array))


class TypedCall:
    """One request in any form, whose outputs may go into regions."""

    __slots__ = ("_rung", "head", "model", "shared")

    def __init__(self, model: ServedModel, head: MessageHead, shared: RegionUse) -> None:
        self.model = model
        self._rung = model.place.label
        self.head = head
        self.shared = shared

    def encode(self, outputs: Outputs) -> bytes:
        """The response message, with a copy of the outputs that don't go into regions."""
        answer = InferAnswer(self.model.name, self.model.version, self.head.id, outputs, self._rung)
        response = message_from_answer(answer, self.head.outputs, self.shared)
        return response.SerializeToString()  # type: ignore[no-any-return]


class _Exchange:
    """An inference that is under way for a call."""

    __slots__ = ("_call", "_known", "_request")

    def __init__(self, known: KnownCall | TypedCall, call: InferCall) -> None:
        self._known = known
        self._call = call
        self._request: Request | None = None

    def begin(self, inputs: Any) -> None:
        known, call = self._known, self._call
        schedule = known.head.schedule
        request = known.model.request(inputs, schedule, known.encode, self._emit, call.arrival_ns, call.timeout_ns)
        request.client = call.client
        if not known.model.runs_here(request):
            request.deliver = call.offer()
        known.model.submit(request)
        self._request = request
        known.model.under_way.begun()
        call.on_cancel = self._cancel

    def _emit(self, outcome: Any) -> None:
        self._known.model.under_way.ended()
        self._request = None
        if isinstance(outcome, bytes):
            self._call.reply(outcome)
            return
        if not isinstance(outcome, EdgeRuntimeError):
            self._call.delivered(outcome)
            return
        if isinstance(outcome, RequestError):
            _count(self._known.model, self._call)
        self._call.fail(*grpc_refusal(outcome, partial(_origin, self._call)))

    def _cancel(self) -> None:
        if self._request is not None and self._known.model.cancel(self._request):
            self._known.model.under_way.ended()


class _TypedExchange(_Exchange):
    """Lets the regions go when the request has its answer, or needs none."""

    __slots__ = ()
    _known: TypedCall

    def _emit(self, outcome: Any) -> None:
        self._known.shared.close()
        super()._emit(outcome)

    def _cancel(self) -> None:
        self._known.shared.close()
        super()._cancel()
