"""The Open Inference Protocol over gRPC, on a blocking channel."""

from __future__ import annotations

from typing import Any, Dict, TypeVar

import grpc
import numpy.typing as npt

from edge_runtime.client.address import Address
from edge_runtime.client.grpc_calls import GrpcCall, GrpcCalls, stubs, target_and_options, tls_of
from edge_runtime.client.request import InferRequest
from edge_runtime.errors import RemoteError

Array = npt.NDArray[Any]
T = TypeVar("T")


class GrpcTransport:
    """A server's gRPC listener, on TCP or on a Unix socket."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._calls = GrpcCalls(address, timeout_s)
        self._is_closed = False
        target, options = target_and_options(address)
        tls = tls_of(address)
        if tls is None:
            self._channel = grpc.insecure_channel(target, options=options)
        else:
            self._channel = grpc.secure_channel(target, tls, options=options)
        self._stubs = stubs(self._channel)

    def is_live(self) -> bool:
        """Whether the server says that it is alive."""
        return self._answer(self._calls.live())

    def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""
        try:
            return self._answer(self._calls.ready(model))
        except RemoteError as error:
            if error.status == "NOT_FOUND":
                return False
            raise

    def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model, in the protocol's JSON form."""
        return self._answer(self._calls.metadata(model))

    def infer(self, request: InferRequest) -> Dict[str, Array]:
        """The outputs, as arrays that the caller owns."""
        return self._answer(self._calls.infer(request))

    def close(self) -> None:
        """Closes the connection; idempotent."""
        self._is_closed = True
        self._channel.close()

    def _answer(self, call: GrpcCall[T]) -> T:
        if self._is_closed:
            raise self._calls.closed()
        try:
            answer = self._stubs[call.method](
                call.request, timeout=self._calls.timeout_s(call), metadata=self._calls.metadata_sent
            )
        except grpc.RpcError as error:
            raise self._calls.failure(call, error) from error
        return call.read(answer)
