"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

import logging
from typing import Any, Awaitable, Callable, Dict

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from edge_runtime.errors import ConfigError, EdgeRuntimeError, InvalidRequestError, UnknownNameError
from edge_runtime.server.models import ModelTable, server_metadata
from edge_runtime.server.settings import ServerSettings, address_text
from edge_runtime.wire.grpc_infer import message_from_answer, request_from_message
from edge_runtime.wire.inference import clipped
from edge_runtime.wire.messages import HEALTH_SERVICE, SERVICE, message, methods
from edge_runtime.wire.status import INTERNAL, public_text, status_of

logger = logging.getLogger(__name__)

Method = Callable[[Any], Awaitable[Any]]


def grpc_server(models: ModelTable, settings: ServerSettings) -> Any:
    """A `grpc.aio` server with all methods, without an address yet; any other method is UNIMPLEMENTED."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", 20_000),
        ]
    )
    routes = GrpcRoutes(models)
    server.add_generic_rpc_handlers(
        (
            _handlers(SERVICE, routes.inference_methods()),
            _handlers(HEALTH_SERVICE, {"Check": routes.health_check}),
        )
    )
    return server


def bind_grpc(server: Any, host: str, port: int) -> int:
    """Binds the server and gives the port.

    Raises:
        ConfigError: the address is in use, or not ours.
    """
    address = address_text(host, port)
    try:
        bound = int(server.add_insecure_port(address))
    except RuntimeError:
        bound = 0
    if not bound:
        raise ConfigError(f"gRPC address {address}: can't be bound (in use?); choose another: --grpc HOST:PORT")
    return bound


def _handlers(service: str, implementations: Dict[str, Method]) -> Any:
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(_answering(implementations[name], request_class))
            for name, request_class, _ in methods(service)
        },
    )


def _answering(method: Method, request_class: Any) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """The method from bytes to bytes, with every failure as a gRPC status."""

    async def answer(received: bytes, context: Any) -> bytes:
        try:
            response = await method(_parsed(received, request_class))
            return response.SerializeToString()  # type: ignore[no-any-return]
        except EdgeRuntimeError as error:
            _, code = status_of(error)
            if code == INTERNAL[1]:
                logger.error("%s: %s", type(error).__name__, error)
            text = public_text(error)
        except Exception:  # the top frame of a call
            logger.exception("a gRPC call failed")
            code, text = INTERNAL[1], "internal error"
        await context.abort(grpc.StatusCode[code], text)
        raise AssertionError("abort raises")

    return answer


def _parsed(received: bytes, request_class: Any) -> Any:
    try:
        return request_class.FromString(received)
    except DecodeError:
        raise InvalidRequestError(f"the message isn't a {request_class.DESCRIPTOR.name}") from None


class GrpcRoutes:
    """What each method answers."""

    def __init__(self, models: ModelTable) -> None:
        self._models = models

    def inference_methods(self) -> Dict[str, Method]:
        """All methods of the inference service, by name."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
        }

    async def server_live(self, _: Any) -> Any:
        """Always true: the process answers."""
        return message("inference.ServerLiveResponse")(live=True)

    async def server_ready(self, _: Any) -> Any:
        """Whether inferences are taken."""
        return message("inference.ServerReadyResponse")(ready=self._models.is_ready)

    async def model_ready(self, request: Any) -> Any:
        """Whether that model is loaded and inferences are taken."""
        is_ready = self._models.is_ready and self._models.has(request.name, request.version)
        return message("inference.ModelReadyResponse")(ready=is_ready)

    async def server_metadata(self, _: Any) -> Any:
        """Name, version and extensions."""
        return ParseDict(server_metadata(), message("inference.ServerMetadataResponse")())

    async def model_metadata(self, request: Any) -> Any:
        """A model's inputs and outputs."""
        model = self._models.find(request.name, request.version)
        return ParseDict(model.metadata(), message("inference.ModelMetadataResponse")())

    async def model_config(self, request: Any) -> Any:
        """A model's configuration in Triton's form."""
        model = self._models.find(request.name, request.version)
        return ParseDict({"config": model.config()}, message("inference.ModelConfigResponse")())

    async def model_statistics(self, request: Any) -> Any:
        """The counters of one model, or of all."""
        found = [self._models.find(request.name, request.version)] if request.name else self._models
        records = [model.statistics_record() for model in found]
        return ParseDict({"model_stats": records}, message("inference.ModelStatisticsResponse")())

    async def repository_index(self, request: Any) -> Any:
        """The models and their states."""
        index = {"models": self._models.index(request.ready)}
        return ParseDict(index, message("inference.RepositoryIndexResponse")())

    async def model_infer(self, request: Any) -> Any:
        """An inference."""
        model = self._models.find(request.model_name, request.model_version)
        arrival_ns = model.executor.now_ns()
        with model.counting_refusals(), self._models.admission(model):
            received = request_from_message(request, model.engine.signature)
            return await model.infer(received, arrival_ns, lambda answer: message_from_answer(answer, received.outputs))

    async def health_check(self, request: Any) -> Any:
        """The standard health check; the service may be "" or the inference service."""
        if request.service not in ("", SERVICE):
            raise UnknownNameError(f"unknown service {clipped(request.service)}; valid: {SERVICE}")
        status = "SERVING" if self._models.is_ready else "NOT_SERVING"
        return ParseDict({"status": status}, message("grpc.health.v1.HealthCheckResponse")())
