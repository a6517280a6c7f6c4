"""The gRPC service on grpcio: the fallback for our own HTTP/2."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any, Awaitable, Callable, Dict, Hashable

import grpc

from edge_runtime.errors import ConfigError, EdgeRuntimeError
from edge_runtime.server import grpc_methods
from edge_runtime.server.access import Access, Visitor
from edge_runtime.server.addresses import address_text
from edge_runtime.server.clients import client_of_peer
from edge_runtime.server.grpc_methods import INFER, GrpcMethods, grpc_refusal, parsed
from edge_runtime.server.grpc_stream import STREAM_INFER
from edge_runtime.server.grpcio_stream import GrpcioStreams, refusing
from edge_runtime.server.grpcio_trace import abort, origin_of, send_trace_back
from edge_runtime.server.models import ModelTable
from edge_runtime.server.region_access import RegionAccess
from edge_runtime.server.rights import is_administrative_grpc
from edge_runtime.server.settings import ServerSettings
from edge_runtime.wire.grpc_infer import message_from_answer, request_from_message
from edge_runtime.wire.messages import message
from edge_runtime.wire.status import INTERNAL
from edge_runtime.wire.tokens import sole_authorization

logger = logging.getLogger(__name__)

Answering = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcioServer:
    """A `grpc.aio` server with all methods; any other method is UNIMPLEMENTED."""

    def __init__(self, models: ModelTable, settings: ServerSettings, regions: RegionAccess, access: Access) -> None:
        self._models = models
        self._regions = regions
        self._visitor = Visitor(access, is_local=False, is_owner=False)
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", 20_000),
            ]
        )
        answers: Dict[str, Answering] = {
            path: _answering(self._plain(method)) for path, method in GrpcMethods(models, regions).by_path.items()
        }
        answers[INFER] = _answering(self._infer, is_inference=True)
        self._streams = GrpcioStreams(self._infer, models)
        self._server.add_generic_rpc_handlers((_Handlers(answers, self._streams, self._visitor),))

    async def start(self, host: str, port: int) -> int:
        """Listens at an address, and gives the port.

        Raises:
            ConfigError: the address is in use, or not ours.
        """
        address = address_text(host, port)
        try:
            bound = int(self._server.add_insecure_port(address))
        except RuntimeError:
            bound = 0
        if not bound:
            raise ConfigError(f"gRPC address {address}: can't be bound (in use?); choose another: --grpc HOST:PORT")
        await self._server.start()
        return bound

    async def close(self, timeout_s: float) -> None:
        """Ends all calls, at the latest after `timeout_s`."""
        self._streams.close()
        await self._server.stop(timeout_s)

    def _plain(self, method: grpc_methods.Answering) -> Answering:
        """A method that isn't an inference."""

        async def answer(received: bytes, context: Any) -> bytes:
            metadata = context.invocation_metadata()
            reply = method(received, lambda: self._visitor.check(_presented(metadata), is_administrative=True))
            return reply if isinstance(reply, bytes) else await reply

        return answer

    async def _infer(self, received: bytes, context: Any) -> bytes:
        arrival_ns = time.perf_counter_ns()
        client = _checked(self._visitor, INFER, context.invocation_metadata())  # again for each message of a stream
        request = parsed(received, message("inference.ModelInferRequest"))
        left_s = context.time_remaining()
        model = self._models.find(request.model_name, request.model_version, is_to_run=True)
        with model.counting_refusals(), self._models.admission(model), self._regions.use() as shared:
            asked = request_from_message(request, model.engine.signature, shared)
            timeout_ns = None if left_s is None else round(left_s * 1e9)
            response = await model.infer(
                asked,
                arrival_ns,
                lambda answer: message_from_answer(answer, asked.outputs, shared),
                timeout_ns,
                client_of_peer(context.peer()) if client is None else client,
            )
        return response.SerializeToString()  # type: ignore[no-any-return]


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, answers: Dict[str, Answering], streams: GrpcioStreams, visitor: Visitor) -> None:
        self._visitor = visitor
        self._handlers = {path: grpc.unary_unary_rpc_method_handler(answer) for path, answer in answers.items()}
        self._handlers[STREAM_INFER] = grpc.stream_stream_rpc_method_handler(streams.serve)

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        try:
            _checked(self._visitor, path, handler_call_details.invocation_metadata)
        except EdgeRuntimeError as error:
            if path == STREAM_INFER:
                return grpc.stream_stream_rpc_method_handler(refusing(error))
            return grpc.unary_unary_rpc_method_handler(_answering(_refused(error), path == INFER))
        return self._handlers.get(path)


def _checked(visitor: Visitor, path: str, metadata: Any) -> Hashable:
    """Passes a call that may be answered, as `Visitor.check` does."""
    return visitor.check(_presented(metadata), is_administrative_grpc(path))


def _presented(metadata: Any) -> bytes | None:
    return sole_authorization(value.encode() for name, value in metadata or () if name == "authorization")


def _refused(error: EdgeRuntimeError) -> Answering:
    async def answer(_: bytes, __: Any) -> bytes:
        raise error

    return answer


def _answering(method: Answering, is_inference: bool = False) -> Answering:
    """The method with every failure as a gRPC status."""

    async def answer(received: bytes, context: Any) -> bytes:
        send_trace_back(context)
        origin = partial(origin_of, context, received if is_inference else None)
        try:
            return await method(received, context)
        except EdgeRuntimeError as error:
            refusal = grpc_refusal(error, origin)
        except Exception:  # the top frame of a call
            logger.exception("a gRPC call failed", extra=origin())
            refusal = INTERNAL[1], "internal error", []
        await abort(context, refusal)
        raise AssertionError("abort raises")

    return answer
