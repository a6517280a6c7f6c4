"""A client for a running server of the Open Inference Protocol: ours, Triton or another."""

from __future__ import annotations

from typing import Any, Dict, Protocol, Sequence

import numpy.typing as npt

from edge_runtime.client.address import Address, address_from_url
from edge_runtime.client.request import InferRequest, checked_text, infer_request
from edge_runtime.errors import ConfigError, ServerUnavailableError
from edge_runtime.tensors import Feeds

Arrays = Dict[str, npt.NDArray[Any]]


class Transport(Protocol):
    """One protocol's way to a server; any thread may call it."""

    def is_live(self) -> bool:
        """Whether the server says that it is alive."""

    def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one model of it, says that it is ready."""

    def metadata(self, model: str | None) -> Dict[str, Any]:
        """What the server says of itself, or of one model, in the protocol's JSON form."""

    def infer(self, request: InferRequest) -> Arrays:
        """The outputs, as arrays that the caller owns."""

    def close(self) -> None:
        """Gives the connections back; idempotent."""


class Client:
    """A connection to a server at `http://HOST:PORT` or `grpc://HOST:PORT`; any thread may use it.

    Args:
        url: where the server listens; `HOST:PORT` alone means `protocol`, or HTTP.
        protocol: `http` or `grpc`, if the URL doesn't say.
        timeout_s: the longest wait for a connection or for the next bytes (HTTP), or for the whole answer (gRPC).

    Raises:
        ConfigError: the URL has another form, or contradicts `protocol`.
    """

    def __init__(self, url: str, *, protocol: str | None = None, timeout_s: float = 60.0) -> None:
        if not timeout_s > 0:
            raise ConfigError(f"timeout_s: expected more than 0, got {timeout_s}")
        address = address_from_url(url, protocol)
        self._address = address
        self._transport = _transport(address, timeout_s)

    @property
    def url(self) -> str:
        """The server's address, protocol first."""
        return str(self._address)

    def is_live(self) -> bool:
        """Whether the server answers and says that it is alive."""
        try:
            return self._transport.is_live()
        except ServerUnavailableError:
            return False

    def is_ready(self, model: str | None = None) -> bool:
        """Whether the server answers and says that it, or `model`, can take requests."""
        try:
            return self._transport.is_ready(_name(model))
        except ServerUnavailableError:
            return False

    def metadata(self, model: str | None = None) -> Dict[str, Any]:
        """What the server says of itself (`name`, `version`, `extensions`) or of a model (`inputs`, `outputs`, …).

        Raises:
            RemoteError: the server refused, or its answer is broken.
            ServerUnavailableError: no connection, no answer in time, or the server can't answer now.
        """
        return self._transport.metadata(_name(model))

    def infer(
        self,
        model: str,
        feeds: Feeds,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        request_id: str | None = None,
    ) -> Arrays:
        """The outputs of a model (all, or those named) for one set of inputs, as arrays that the caller owns.

        Raises:
            InvalidRequestError: an input isn't an array that a tensor can hold; nothing was sent.
            RemoteError: the server refused, or its answer is broken.
            ServerUnavailableError: no connection, no answer in time, or the server can't answer now.
        """
        return self._transport.infer(infer_request(model, feeds, outputs, version, request_id))

    def close(self) -> None:
        """Closes the connections; idempotent."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _name(model: str | None) -> str | None:
    return None if model is None else checked_text("model", model)


def _transport(address: Address, timeout_s: float) -> Transport:
    if address.protocol == "grpc":
        from edge_runtime.client.grpc import GrpcTransport  # noqa: PLC0415  (loading gRPC takes a while)

        return GrpcTransport(address, timeout_s)
    from edge_runtime.client.http import HttpTransport  # noqa: PLC0415

    return HttpTransport(address, timeout_s)
