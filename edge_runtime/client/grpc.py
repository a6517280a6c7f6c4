"""The Open Inference Protocol over gRPC, tensors as raw bytes both ways."""

from __future__ import annotations

from typing import Any, Dict

import grpc
import numpy as np
import numpy.typing as npt

from edge_runtime.client.address import Address
from edge_runtime.client.answers import Origin, array_from_bytes, array_from_list, tensor_rows, tensor_spec
from edge_runtime.client.request import InferRequest
from edge_runtime.errors import InvalidRequestError, RemoteError, ServerUnavailableError
from edge_runtime.tensors import TensorSpec
from edge_runtime.wire.grpc_infer import TYPED_CONTENTS
from edge_runtime.wire.messages import SERVICE, message, methods

Array = npt.NDArray[Any]

_MAX_MESSAGE_NBYTES = 2**31 - 1
_MAX_HEAD_NBYTES = 2**20
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_NBYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_NBYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_NOT_NOW = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class GrpcTransport:
    """A server's gRPC listener."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._server = str(address)
        self._origin = Origin(self._server, "OK")
        self._timeout_s = timeout_s
        self._is_closed = False
        self._channel = grpc.insecure_channel(address.authority, options=_CHANNEL_OPTIONS)
        self._calls = {
            name: self._channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            for name, request, response in methods(SERVICE)
        }

    def is_live(self) -> bool:
        """Whether the server says that it is alive."""
        return bool(self._call("ServerLive", _request("ServerLive")).live)

    def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""
        try:
            if model is None:
                return bool(self._call("ServerReady", _request("ServerReady")).ready)
            return bool(self._call("ModelReady", _request("ModelReady", name=model)).ready)
        except RemoteError as error:
            if error.status == "NOT_FOUND":
                return False
            raise

    def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model, in the protocol's JSON form."""
        if model is None:
            server = self._call("ServerMetadata", _request("ServerMetadata"))
            return {"name": server.name, "version": server.version, "extensions": list(server.extensions)}
        found = self._call("ModelMetadata", _request("ModelMetadata", name=model))
        return {
            "name": found.name,
            "versions": list(found.versions),
            "platform": found.platform,
            "inputs": [_row(tensor) for tensor in found.inputs],
            "outputs": [_row(tensor) for tensor in found.outputs],
        }

    def infer(self, request: InferRequest) -> Dict[str, Array]:
        """The outputs, as arrays that the caller owns."""
        nbytes = sum(tensor.data.size for tensor in request.inputs)
        if nbytes > _MAX_MESSAGE_NBYTES - _MAX_HEAD_NBYTES:
            raise InvalidRequestError(
                f"inputs of {nbytes} bytes don't fit into one gRPC message of 2 GiB; send smaller batches"
            )
        outputs = self._outputs(self._call("ModelInfer", _infer_message(request)))
        missing = [name for name in request.outputs if name not in outputs]
        if missing:
            raise self._origin.broken(f"output {missing[0]!r} was asked for and is missing")
        return outputs

    def close(self) -> None:
        """Closes the connection; idempotent."""
        self._is_closed = True
        self._channel.close()

    def _call(self, name: str, request: Any) -> Any:
        if self._is_closed:
            raise ServerUnavailableError(f"{self._server}: this client is closed; make a new one")
        try:
            return self._calls[name](request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._translated(name, error) from error

    def _translated(self, name: str, error: Any) -> RemoteError | ServerUnavailableError:
        status = error.code().name
        text = " ".join((error.details() or "no text").split())[:2000]
        if status == "DEADLINE_EXCEEDED":
            text = f"no answer within {self._timeout_s:g} s ({text}); try again later, or raise the time limit"
        what = f"{self._server}: {name}: {status}: {text}"
        return ServerUnavailableError(what) if status in _NOT_NOW else RemoteError(what, status)

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
    return built
