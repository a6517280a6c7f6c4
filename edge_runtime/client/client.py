"""A client for a running server of the Open Inference Protocol: ours, Triton or another."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, Mapping, Protocol, Sequence

import numpy.typing as npt

from edge_runtime.client.address import Address, address_from_url
from edge_runtime.client.credentials import NO_CREDENTIALS, Credentials
from edge_runtime.client.refusals import RefusedError
from edge_runtime.client.request import Hurry, InferRequest, checked_text, infer_request, lane_open
from edge_runtime.client.retries import Retries
from edge_runtime.client.stream_line import StreamLine
from edge_runtime.errors import ConfigError, ServerUnavailableError
from edge_runtime.tensors import Feeds, Shape

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_runtime.client.lane import Frames
    from edge_runtime.client.request import HurryOptions
    from edge_runtime.client.stream import Stream

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
        """The outputs, as arrays that the caller owns; raises RefusedError where it may be sent again."""

    def close(self) -> None:
        """Gives the connections back; idempotent."""


class Client:
    """A connection to a server at `http://HOST:PORT`, `grpc://HOST:PORT` or `unix:///PATH`; any thread may use it.

    `https://` and `grpcs://` are the same by TLS.

    Args:
        url: where the server listens; `HOST:PORT` alone means `protocol`, or HTTP.
        protocol: `http` or `grpc`, if the URL doesn't say.
        timeout_s: the longest wait for a connection or for the next bytes (HTTP), or for the whole answer (gRPC).
        retries: how often an inference is sent again that the server refused for now and said when to; each waits as
            long as the server said at least, and none begins after the deadline or `timeout_s`.
        credentials: a token, and what TLS needs.

    Raises:
        ConfigError: the URL has another form, or contradicts `protocol`, a number is out of range, or a file of TLS
            can't be used.
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

    def is_live(self) -> bool:
        """Whether the server answers and says that it is alive."""
        try:
            return self._transport.is_live()
        except ServerUnavailableError:
            return False

    def is_ready(self, model: str | None = None) -> bool:
        """Whether the server answers and says that it, or `model`, can take requests."""
        try:
            return self._transport.is_ready(model_name(model))
        except ServerUnavailableError:
            return False

    def metadata(self, model: str | None = None) -> Dict[str, Any]:
        """What the server says of itself (`name`, `version`, `extensions`) or of a model (`inputs`, `outputs`, …).

        Raises:
            RemoteError: the server refused, or its answer is broken.
            ServerUnavailableError: no connection, no answer in time, or the server can't answer now.
        """
        return self._transport.metadata(model_name(model))

    def infer(
        self,
        model: str,
        feeds: Feeds,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        request_id: str | None = None,
        **hurry: Unpack[HurryOptions],
    ) -> Arrays:
        """The outputs of a model (all, or those named) for one set of inputs, as arrays that the caller owns.

        Args:
            model: its name.
            feeds: the inputs by name; strings may be text or bytes, and come back as bytes in arrays of objects. BF16
                is what `bfloat16_from_float32` makes (or ml_dtypes has), and comes back as float32.
            outputs: the names of those that are wanted; None: all.
            version: of the model; None: the server's choice.
            request_id: what the server calls the request.
            hurry: `deadline_ms`, from now on, within which the answer must be there, or there is none; and `priority`:
                1 is served first, 0 (the default) last.

        Raises:
            InvalidRequestError: an input isn't an array that a tensor can hold, or no such deadline; nothing was sent.
            QueueFullError, DeadlineRefusedError, DeadlineExpiredError: the server refused for now, and said why.
            RemoteError: the server refused, or its answer is broken.
            ServerUnavailableError: no connection, no answer in time, or the server can't answer now.
        """
        return self._infer(infer_request(model, feeds, outputs, version, request_id, Hurry(**hurry)))

    def frames(
        self,
        model: str,
        shapes: Mapping[str, Shape],
        count: int = 1,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
    ) -> Frames:
        """Frames of memory shared with the server, at these input shapes: written and read in place, never sent.

        The server must be ours, and on this machine: the URL is `unix:///PATH`. The frames have a connection of their
        own; the caller closes them.

        Raises:
            ConfigError: another URL.
            InvalidRequestError: names or shapes that can't be sent.
            RemoteError: the server refused, or its answer is broken.
            ServerUnavailableError: no connection, no answer in time, or the server can't share memory now.
        """
        from edge_runtime.client.lane import Frames  # noqa: PLC0415

        wanted = lane_open(model, shapes, count, outputs, version)
        return Frames(lane_path(self._address), wanted, self._timeout_s, self._retries)

    def stream(
        self,
        model: str,
        outputs: Sequence[str] | None = None,
        version: str | None = None,
        in_flight: int = 2,
        when_full: str = "wait",
    ) -> Stream:
        """A stream of inferences of a model, a bounded number at a time, whose results come in order; see `Stream`.

        Args:
            model: its name.
            outputs: the names of those that are wanted; None: all.
            version: of the model; None: the server's choice.
            in_flight: how many are under way at once.
            when_full: what happens to another one then: `wait` makes `put` wait; `drop_oldest` lets as many wait as are
                in flight, and drops the oldest of them; `newest_wins` lets just the newest wait.

        Raises:
            ConfigError: no such number or policy.
        """
        from edge_runtime.client.stream import Stream  # noqa: PLC0415

        def infer(feeds: Feeds, hurry: Hurry) -> Arrays:
            return self._infer(infer_request(model, feeds, outputs, version, None, hurry))

        return Stream(infer, StreamLine(in_flight, when_full))

    def close(self) -> None:
        """Closes the connections; idempotent."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _infer(self, request: InferRequest) -> Arrays:
        retries = Retries(self._retries, request.hurry, self._timeout_s) if self._retries else None
        while True:
            try:
                return self._transport.infer(request)
            except RefusedError as refused:
                wait_s = None if retries is None else retries.wait_s(refused.error)
                if retries is None or wait_s is None:
                    raise refused.error from None
            time.sleep(wait_s)
            request = replace(request, hurry=retries.hurry())


def check_limits(timeout_s: float, retries: int) -> None:
    """Raises ConfigError unless a client can have them."""
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s: expected more than 0, got {timeout_s}")
    if type(retries) is not int or retries < 0:
        raise ConfigError(f"retries: expected a number from 0 on, got {retries!r}")


def model_name(model: str | None) -> str | None:
    """A model's name, if it can be sent; None means the server itself."""
    return None if model is None else checked_text("model", model)


def lane_path(address: Address) -> str:
    """The Unix socket of a server with which memory can be shared.

    Raises:
        ConfigError: the server isn't addressed by one.
    """
    if not address.socket_path:
        raise ConfigError(f"server {address}: memory is shared over a Unix socket only; use unix:///PATH")
    return address.socket_path


def _transport(address: Address, timeout_s: float) -> Transport:
    if address.protocol == "grpc":
        from edge_runtime.client.grpc import GrpcTransport  # noqa: PLC0415  (loading gRPC takes a while)

        return GrpcTransport(address, timeout_s)
    from edge_runtime.client.http import HttpTransport  # noqa: PLC0415

    return HttpTransport(address, timeout_s)
