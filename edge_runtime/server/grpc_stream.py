"""Inferences that come on a stream: each one as a unary call whose answer is wrapped, errors among them."""

from __future__ import annotations

from typing import Any, Callable, Hashable, Sequence, Tuple

from edge_runtime.server.http2.call import UnaryCall
from edge_runtime.server.http2.head import Fields
from edge_runtime.server.models import ModelTable
from edge_runtime.wire.grpc_stream import request_id, streamed_error, streamed_response
from edge_runtime.wire.messages import SERVICE

STREAM_INFER = f"/{SERVICE}/ModelStreamInfer"
ENDS_WITH_ERROR = ("triton_grpc_error", "true")  # metadata of a stream that is to end at its first error
UNAVAILABLE = "UNAVAILABLE"
_ENDS_WITH_ERROR = tuple(text.encode() for text in ENDS_WITH_ERROR)


class StreamedCall:
    """One request of a stream, as what `UnaryCall` is to the request of a unary call.

    An error is an answer, and the stream goes on, unless the client wanted otherwise, the message is no request, or
    the server is shutting down.
    """

    __slots__ = ("_call", "_models", "arrival_ns", "message", "timeout_ns")

    def __init__(self, call: UnaryCall, models: ModelTable) -> None:
        self._call = call
        self._models = models
        self.message = call.message
        self.arrival_ns = call.arrival_ns
        self.timeout_ns = call.timeout_ns

    @property
    def metadata(self) -> Fields:
        """As of `UnaryCall`."""
        return self._call.metadata

    @property
    def client(self) -> Hashable:
        """As of `UnaryCall`."""
        return self._call.client

    @property
    def on_cancel(self) -> Callable[[], None] | None:
        """As of `UnaryCall`."""
        return self._call.on_cancel

    @on_cancel.setter
    def on_cancel(self, function: Callable[[], None] | None) -> None:
        self._call.on_cancel = function

    def reply(self, message: bytes) -> None:
        """Answers with the `ModelInferResponse`."""
        self._call.reply(*streamed_response(message))

    def offer(self) -> Callable[[Any], Any] | None:
        """As of `UnaryCall`."""
        return self._call.offer()

    def delivered(self, left: Any) -> None:
        """As of `UnaryCall`."""
        self._call.delivered(left)

    def fail(self, code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> None:
        """Answers with an error, or ends the stream with it."""
        is_leaving = code == UNAVAILABLE and not self._models.is_ready
        found = None if is_leaving or _ENDS_WITH_ERROR in self._call.metadata else request_id(self.message)
        if found is None:
            self._call.fail(code, text, metadata)
        else:
            self._call.reply(streamed_error(found, text))
