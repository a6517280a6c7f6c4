"""The Open Inference Protocol over HTTP, on blocking sockets."""

from __future__ import annotations

from typing import Any, Dict, TypeVar

from edge_runtime.client.address import Address
from edge_runtime.client.connections import HttpConnections
from edge_runtime.client.http_calls import Arrays, HttpCall, HttpCalls
from edge_runtime.client.request import InferRequest

T = TypeVar("T")


class HttpTransport:
    """A server's HTTP listener, on TCP or on a Unix socket."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._connections = HttpConnections(address, timeout_s)
        self._calls = HttpCalls(address)

    def is_live(self) -> bool:
        """Whether the server says that it is alive."""
        return self._answer(self._calls.live())

    def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""
        return self._answer(self._calls.ready(model))

    def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model."""
        return self._answer(self._calls.metadata(model))

    def snapshot(self) -> Dict[str, Any]:
        """What edge_runtime's own server does now: the live document."""
        return self._answer(self._calls.snapshot())

    def infer(self, request: InferRequest) -> Arrays:
        """The outputs, as arrays that the caller owns."""
        return self._answer(self._calls.infer(request))

    def close(self) -> None:
        """Closes the connections; idempotent."""
        self._connections.close()

    def _answer(self, call: HttpCall[T]) -> T:
        return call.read(self._connections.exchange(call.request))
