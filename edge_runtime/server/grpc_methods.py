"""The methods of the Open Inference Protocol over gRPC, whatever carries them; inference is the transport's own."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from typing import Any, Callable, Coroutine, Dict, List, Tuple, Union

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError, ServerUnavailableError, UnknownNameError
from edge_runtime.server.administration_requests import grpc_methods as administration_methods
from edge_runtime.server.models import ModelTable, server_metadata
from edge_runtime.server.region_access import NO_REGIONS, RegionAccess
from edge_runtime.server.region_requests import grpc_methods
from edge_runtime.server.rights import is_administrative_message
from edge_runtime.wire.inference import clipped
from edge_runtime.wire.messages import HEALTH_SERVICE, SERVICE, message, methods
from edge_runtime.wire.raw_message import check_parts
from edge_runtime.wire.status import INTERNAL, public_text, status_of

logger = logging.getLogger(__name__)

INFER = f"/{SERVICE}/ModelInfer"
_EXTENSIONS = re.compile(rf"/{re.escape(SERVICE)}/(CudaSharedMemory(?:Status|Register|Unregister)|TraceSetting)")

Method = Callable[[Any], Any]
CheckRight = Callable[[], object]  # raises unless who calls may administer the server now
Answering = Callable[[Any, CheckRight], Union[bytes, Coroutine[Any, Any, bytes]]]
Refusal = Tuple[str, str, List[Tuple[str, str]]]


class GrpcMethods:
    """What each method answers, from message to message; all but `ModelInfer`.

    Calls have passed by their heads; `by_path` checks the right of those that only their message shows to need one,
    before anything is made of it.
    """

    def __init__(self, models: ModelTable, regions: RegionAccess = NO_REGIONS) -> None:
        self._models = models
        self._has_regions = regions.is_on
        own: Dict[str, Dict[str, Method]] = {
            SERVICE: {
                "ServerLive": self._server_live,
                "ServerReady": self._server_ready,
                "ModelReady": self._model_ready,
                "ServerMetadata": self._server_metadata,
                "ModelMetadata": self._model_metadata,
                "ModelConfig": self._model_config,
                "ModelStatistics": self._model_statistics,
                **grpc_methods(regions),
                **administration_methods(models),
            },
            HEALTH_SERVICE: {"Check": self._health_check},
        }
        self.by_path: Dict[str, Answering] = {
            f"/{service}/{name}": _from_bytes(f"/{service}/{name}", own[service][name], request_class)
            for service in own
            for name, request_class, _ in methods(service)
            if name in own[service]
        }

    def _server_live(self, _: Any) -> Any:
        return message("inference.ServerLiveResponse")(live=True)

    def _server_ready(self, _: Any) -> Any:
        return message("inference.ServerReadyResponse")(ready=not self._models.problem())

    def _model_ready(self, request: Any) -> Any:
        is_ready = self._models.has(request.name, request.version) and not self._models.problem(request.name)
        return message("inference.ModelReadyResponse")(ready=is_ready)

    def _server_metadata(self, _: Any) -> Any:
        content = server_metadata(self._has_regions, self._models.administration.log is not None)
        return ParseDict(content, message("inference.ServerMetadataResponse")())

    def _model_metadata(self, request: Any) -> Any:
        model = self._models.find(request.name, request.version)
        return ParseDict(model.metadata(), message("inference.ModelMetadataResponse")())

    def _model_config(self, request: Any) -> Any:
        model = self._models.find(request.name, request.version)
        return ParseDict({"config": model.config()}, message("inference.ModelConfigResponse")())

    def _model_statistics(self, request: Any) -> Any:
        found = [self._models.find(request.name, request.version)] if request.name else self._models
        records = [model.statistics_record() for model in found]
        return ParseDict({"model_stats": records}, message("inference.ModelStatisticsResponse")())

    def _health_check(self, request: Any) -> Any:
        if request.service not in ("", SERVICE):
            raise UnknownNameError(f"unknown service {clipped(request.service)}; valid: {SERVICE}")
        status = "NOT_SERVING" if self._models.problem() else "SERVING"
        return ParseDict({"status": status}, message("grpc.health.v1.HealthCheckResponse")())


def _from_bytes(path: str, method: Method, request_class: Any) -> Answering:
    async def later(reply: Any) -> bytes:
        return (await reply).SerializeToString()  # type: ignore[no-any-return]

    def answer(received: Any, check_right: CheckRight) -> bytes | Coroutine[Any, Any, bytes]:
        if is_administrative_message(path, received):
            check_right()
        reply = method(parsed(received, request_class))
        return later(reply) if asyncio.iscoroutine(reply) else reply.SerializeToString()

    return answer


def parsed(received: Any, request_class: Any) -> Any:
    """The message in `received`.

    Raises:
        InvalidRequestError: it is none of that class, or of so many parts that it can't be a good one.
    """
    check_parts(memoryview(received))
    try:
        return request_class.FromString(bytes(received))
    except DecodeError:
        raise InvalidRequestError(f"the message isn't a {request_class.DESCRIPTOR.name}") from None


def unknown_method(path: str) -> str:
    """What to say of a method that we don't have."""
    found = _EXTENSIONS.fullmatch(path)
    return "no such method" if found is None else f"{found[1]} belongs to an extension that isn't supported"


def grpc_refusal(error: EdgeRuntimeError, origin: Callable[[], Dict[str, str]] = dict) -> Refusal:
    """Status name, text and trailing metadata; what isn't the client's doing is logged, and not told.

    `origin` is where it comes from.
    """
    _, code = status_of(error)
    if code == INTERNAL[1]:
        logger.error("%s: %s", type(error).__name__, error, extra=origin())
    elif logger.isEnabledFor(logging.DEBUG):
        logger.debug("refused with %s: %s", code, error, extra=origin())
    metadata: List[Tuple[str, str]] = []
    if isinstance(error, ServerUnavailableError):
        milliseconds = str(math.ceil(error.retry_after_s * 1000))
        metadata = [
            ("edge-runtime-error", type(error).__name__),
            ("retry-after-ms", milliseconds),
            ("grpc-retry-pushback-ms", milliseconds),
        ]
    return code, public_text(error), metadata
