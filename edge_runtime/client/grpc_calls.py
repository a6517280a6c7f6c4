"""Calls of the Open Inference Protocol over gRPC, tensors as raw bytes both ways; the same for every way to wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Generic, TypeVar

import grpc
import numpy as np
import numpy.typing as npt

from edge_runtime.client.address import Address
from edge_runtime.client.answers import Origin, array_from_bytes, array_from_list, tensor_rows, tensor_spec
from edge_runtime.client.refusals import ERROR_KIND, KINDS, RETRY_AFTER_MS, retry_after_s, unavailable, unwrapped
from edge_runtime.client.request import InferRequest
from edge_runtime.errors import DeadlineExpiredError, InvalidRequestError, RemoteError, ServerUnavailableError
from edge_runtime.tensors import TensorSpec
from edge_runtime.wire.grpc_infer import TYPED_CONTENTS
from edge_runtime.wire.messages import SERVICE, message, methods

Array = npt.NDArray[Any]
T = TypeVar("T")

_MAX_MESSAGE_NBYTES = 2**31 - 1
_MAX_HEAD_NBYTES = 2**20
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_NBYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_NBYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.default_authority", "localhost"),
)
_NOT_NOW = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@dataclass(frozen=True)
class GrpcCall(Generic[T]):
    """A method, what is sent to it, and what is to be made of its answer; `limit_s` is the request's own time limit."""

    method: str
    request: Any
    read: Callable[[Any], T]
    limit_s: float | None = None


class GrpcCalls:
    """Makes calls to one server; `metadata_sent` goes with each."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._server = str(address)
        self._timeout_s = timeout_s
        authorization = address.credentials.authorization
        self.metadata_sent = None if authorization is None else (("authorization", authorization),)
        self._origin = Origin(self._server, "OK")

    def live(self) -> GrpcCall[bool]:
        """Whether the server says that it is alive."""
        return GrpcCall("ServerLive", _request("ServerLive"), lambda answer: bool(answer.live))

    def ready(self, model: str | None) -> GrpcCall[bool]:
        """Whether the server, or one model of it, says that it is ready."""
        if model is None:
            return GrpcCall("ServerReady", _request("ServerReady"), lambda answer: bool(answer.ready))
        return GrpcCall("ModelReady", _request("ModelReady", name=model), lambda answer: bool(answer.ready))

    def metadata(self, model: str | None) -> GrpcCall[Dict[str, Any]]:
        """What the server says of itself, or of one model, in the protocol's JSON form."""
        if model is None:
            return GrpcCall("ServerMetadata", _request("ServerMetadata"), _server_metadata)
        return GrpcCall("ModelMetadata", _request("ModelMetadata", name=model), _model_metadata)

    def infer(self, wanted: InferRequest) -> GrpcCall[Dict[str, Array]]:
        """The outputs, as arrays that the caller owns.

        Raises:
            InvalidRequestError: the inputs are larger than a message.
        """
        nbytes = sum(tensor.data.size for tensor in wanted.inputs)
        if nbytes > _MAX_MESSAGE_NBYTES - _MAX_HEAD_NBYTES:
            raise InvalidRequestError(
                f"inputs of {nbytes} bytes don't fit into one gRPC message of 2 GiB; send smaller batches"
            )

        def read(answer: Any) -> Dict[str, Array]:
            outputs = self._outputs(answer)
            for name in wanted.outputs:
                if name not in outputs:
                    raise self._origin.broken(f"output {name!r} was asked for and is missing")
            return outputs

        deadline_ms = wanted.hurry.deadline_ms
        return GrpcCall("ModelInfer", _infer_message(wanted), read, None if deadline_ms is None else deadline_ms / 1e3)

    def timeout_s(self, call: GrpcCall[Any]) -> float:
        """How long a call may take."""
        return self._timeout_s if call.limit_s is None else min(call.limit_s, self._timeout_s)

    def failure(self, call: GrpcCall[Any], error: Any) -> Exception:
        """What to raise for a failed call: a `RefusedError` where an inference may be sent again."""
        status = error.code().name
        text = " ".join((error.details() or "no text").split())[:2000]
        said = {str(key).lower(): value for key, value in error.trailing_metadata() or ()}
        kind = said.get(ERROR_KIND)
        wait_s = retry_after_s(_text(said.get(RETRY_AFTER_MS)), None)
        is_own_limit = call.limit_s is not None and call.limit_s <= self._timeout_s
        if status == "DEADLINE_EXCEEDED" and kind is None:
            if is_own_limit:
                text = f"no answer within the deadline of {(call.limit_s or 0) * 1e3:g} ms ({text})"
                return DeadlineExpiredError(f"{self._server}: {call.method}: {status}: {text}")
            text = f"no answer within {self._timeout_s:g} s ({text}); try again later, or raise the time limit"
        what = f"{self._server}: {call.method}: {status}: {text}"
        if status not in _NOT_NOW and kind not in KINDS:
            return RemoteError(what, status)
        found = unavailable(what, _text(kind), wait_s)
        return found if call.method == "ModelInfer" else unwrapped(found)

    def unreadable(self, call: GrpcCall[Any]) -> RemoteError:
        """The error for an answer that is no message."""
        return RemoteError(f"{self._server}: {call.method}: INTERNAL: the answer can't be read", "INTERNAL")

    def closed(self) -> ServerUnavailableError:
        """The error for the use of a closed client."""
        return ServerUnavailableError(f"{self._server}: this client is closed; make a new one")

    def _outputs(self, answer: Any) -> Dict[str, Array]:
        rows = tensor_rows({"outputs": [_row(tensor) for tensor in answer.outputs]}, "outputs", self._origin)
        specs = [tensor_spec(row, 0, self._origin) for row in rows]
        raw = answer.raw_output_contents
        if not raw:
            return {spec.name: self._typed(tensor.contents, spec) for spec, tensor in zip(specs, answer.outputs)}
        if len(raw) != len(specs):
            raise self._origin.broken(f"{len(specs)} outputs, but {len(raw)} raw contents")
        return {
            spec.name: array_from_bytes(np.frombuffer(data, np.uint8), spec, self._origin)
            for spec, data in zip(specs, raw)
        }

    def _typed(self, contents: Any, spec: TensorSpec) -> Array:
        field = TYPED_CONTENTS.get(spec.dtype)
        return array_from_list(list(getattr(contents, field)) if field else None, spec, self._origin)


def target_and_options(address: Address) -> Any:
    """What a channel to a server is made of."""
    if address.socket_path:
        return f"unix:{address.socket_path}", _CHANNEL_OPTIONS
    return address.authority, _CHANNEL_OPTIONS[:-1]


def tls_of(address: Address) -> Any:
    """What a channel by TLS shows and trusts; None where it isn't by TLS.

    Raises:
        ConfigError: a file can't be read.
    """
    if not address.is_secure:
        return None
    own = address.credentials
    return grpc.ssl_channel_credentials(own.pem(own.ca), own.pem(own.key), own.pem(own.certificate))


def stubs(channel: Any) -> Dict[str, Any]:
    """The callables of all methods on a channel, blocking or asyncio's."""
    return {
        name: channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        for name, request, response in methods(SERVICE)
    }


def _text(value: Any) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _server_metadata(found: Any) -> Dict[str, Any]:
    return {"name": found.name, "version": found.version, "extensions": list(found.extensions)}


def _model_metadata(found: Any) -> Dict[str, Any]:
    return {
        "name": found.name,
        "versions": list(found.versions),
        "platform": found.platform,
        "inputs": [_row(tensor) for tensor in found.inputs],
        "outputs": [_row(tensor) for tensor in found.outputs],
    }


def _request(method: str, /, **fields: Any) -> Any:
    return message(f"inference.{method}Request")(**fields)


def _row(tensor: Any) -> Dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _infer_message(request: InferRequest) -> Any:
    built = _request("ModelInfer", model_name=request.model, model_version=request.version, id=request.request_id)
    for tensor in request.inputs:
        built.inputs.add(name=tensor.name, datatype=tensor.dtype.value, shape=tensor.shape)
        built.raw_input_contents.append(tensor.data.tobytes())
    for name in request.outputs:
        built.outputs.add(name=name)
    for name, value in request.hurry.parameters().items():
        field = "int64_param" if isinstance(value, int) else "double_param"
        setattr(built.parameters[name], field, value)
    return built
