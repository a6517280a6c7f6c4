"""The client for programs on asyncio."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, Mapping, Protocol, Sequence

from edge_runtime.client.address import Address, address_from_url
from edge_runtime.client.client import Arrays, check_limits, lane_path, model_name
from edge_runtime.client.credentials import NO_CREDENTIALS, Credentials
from edge_runtime.client.refusals import RefusedError
from edge_runtime.client.request import Hurry, InferRequest, infer_request, lane_open
from edge_runtime.client.retries import Retries
from edge_runtime.client.stream_line import StreamLine
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.tensors import Feeds, Shape

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_runtime.client.lane_async import AsyncFrames
    from edge_runtime.client.request import HurryOptions
    from edge_runtime.client.stream_async import AsyncStream


class AsyncTransport(Protocol):
    """One protocol's way to a server, on one loop."""

    async def is_live(self) -> bool:
        """Whether the server says that it is alive."""

    async def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""

    async def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model, in the protocol's JSON form."""

    async def infer(self, request: InferRequest) -> Arrays:
        """The outputs, as arrays that the caller owns; raises RefusedError where it may be sent again."""

    async def close(self) -> None:
        """Gives the connections back; idempotent."""


class AsyncClient:
    """What `Client` is, for the tasks of one loop; a task that is cancelled abandons its call cleanly.

    Arguments and errors are those of `Client`.
    """

    def __init__(
        self,
        url: str,
        *,
        protocol: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 0,
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        check_limits(timeout_s, retries)
        address = address_from_url(url, protocol, credentials)
        self._address = address
        self._timeout_s = timeout_s
        self._retries = retries
        self._transport = _transport(address, timeout_s)

    @property
    def url(self) -> str:
        """The server's address, protocol first."""
        return str(self._address)

    async def is_live(self) -> bool:
        """Whether the server answers and says that it is alive."""
        try:
            return await self._transport.is_live()
        except ServerUnavailableError:
            return False

    async def is_ready(self, model: str | None = None) -> bool:
        """Whether the server answers and says that it, or `model`, can take requests."""
        try:
            return await self._transport.is_ready(model_name(model))
        except ServerUnavailableError:
            return False

    async def metadata(self, model: str | None = None) -> Dict[str, Any]:
        """What the server says of itself or of a model; see `Client.metadata`."""
        return await self._transport.metadata(model_name(model))

    async def infer(
        self,
        model: str,
        feeds: Feeds,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        request_id: str | None = None,
        **hurry: Unpack[HurryOptions],
    ) -> Arrays:
        """The outputs of a model for one set of inputs, as arrays that the caller owns; see `Client.infer`."""
        return await self._infer(infer_request(model, feeds, outputs, version, request_id, Hurry(**hurry)))

    async def frames(
        self,
        model: str,
        shapes: Mapping[str, Shape],
        count: int = 1,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
    ) -> AsyncFrames:
        """Frames of memory shared with the server, at these input shapes; see `Client.frames`."""
        from edge_runtime.client.lane_async import AsyncFrames  # noqa: PLC0415

        wanted = lane_open(model, shapes, count, outputs, version)
        return await AsyncFrames.opened(lane_path(self._address), wanted, self._timeout_s, self._retries)

    def stream(
        self,
        model: str,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        in_flight: int = 2,
        when_full: str = "wait",
    ) -> AsyncStream:
        """A stream of inferences of a model, a bounded number at a time; see `Client.stream`."""
        from edge_runtime.client.stream_async import AsyncStream  # noqa: PLC0415

        async def infer(feeds: Feeds, hurry: Hurry) -> Arrays:
            return await self._infer(infer_request(model, feeds, outputs, version, None, hurry))

        return AsyncStream(infer, StreamLine(in_flight, when_full))

    async def close(self) -> None:
        """Closes the connections; idempotent."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _infer(self, request: InferRequest) -> Arrays:
        retries = Retries(self._retries, request.hurry, self._timeout_s) if self._retries else None
        while True:
            try:
                return await self._transport.infer(request)
            except RefusedError as refused:
                wait_s = None if retries is None else retries.wait_s(refused.error)
                if retries is None or wait_s is None:
                    raise refused.error from None
            await asyncio.sleep(wait_s)
            request = replace(request, hurry=retries.hurry())


def _transport(address: Address, timeout_s: float) -> AsyncTransport:
    if address.protocol == "grpc":
        from edge_runtime.client.grpc_async import AsyncGrpcTransport  # noqa: PLC0415  (loading gRPC takes a while)

        return AsyncGrpcTransport(address, timeout_s)
    from edge_runtime.client.http_async import AsyncHttpTransport  # noqa: PLC0415

    return AsyncHttpTransport(address, timeout_s)
