"""The Open Inference Protocol over gRPC, on asyncio."""

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


class AsyncGrpcTransport:
    """A server's gRPC listener, on TCP or on a Unix socket; on one loop. Cancelled calls are cancelled there too."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._calls = GrpcCalls(address, timeout_s)
        self._address = address
        self._is_closed = False
        self._tls = tls_of(address)
        self._channel: Any = None
        self._stubs: Dict[str, Any] = {}

    async def is_live(self) -> bool:
        """Whether the server says that it is alive."""
        return await self._answer(self._calls.live())

    async def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""
        try:
            return await self._answer(self._calls.ready(model))
        except RemoteError as error:
            if error.status == "NOT_FOUND":
                return False
            raise

    async def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model, in the protocol's JSON form."""
        return await self._answer(self._calls.metadata(model))

    async def infer(self, request: InferRequest) -> Dict[str, Array]:
        """The outputs, as arrays that the caller owns."""
        return await self._answer(self._calls.infer(request))

    async def close(self) -> None:
        """Closes the connection; idempotent."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close()

    async def _answer(self, call: GrpcCall[T]) -> T:
        if self._is_closed:
            raise self._calls.closed()
        if self._channel is None:  # a channel belongs to the loop that it is made on
            target, options = target_and_options(self._address)
            if self._tls is None:
                self._channel = grpc.aio.insecure_channel(target, options=options)
            else:
                self._channel = grpc.aio.secure_channel(target, self._tls, options=options)
            self._stubs = stubs(self._channel)
        try:
            answer = await self._stubs[call.method](
                call.request, timeout=self._calls.timeout_s(call), metadata=self._calls.metadata_sent
            )
        except grpc.RpcError as error:
            raise self._calls.failure(call, error) from error
        if answer is None:  # what gRPC's asyncio makes of bytes that are no message
            raise self._calls.unreadable(call)
        return call.read(answer)
