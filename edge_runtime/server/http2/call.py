"""One call: a request message and the way to its answer."""

from __future__ import annotations

import logging
from typing import Any, Callable, ClassVar, Hashable, List, Optional, Protocol, Sequence, Tuple, Union

from edge_runtime.server.access import Visitor
from edge_runtime.server.http2.head import Fields, Head
from edge_runtime.server.http2.header_blocks import literal
from edge_runtime.server.http2.intake import Intake
from edge_runtime.server.http2.stream_intake import StreamIntake
from edge_runtime.server.origin import TRACEPARENT

logger = logging.getLogger(__name__)

Buffer = Union[bytes, bytearray, memoryview]

_TRACEPARENT = TRACEPARENT.encode()


class Answering(Protocol):
    """What a call needs of its connection."""

    @property
    def peer(self) -> str:
        """The client's address."""

    @property
    def client(self) -> Hashable:
        """Whose connection it is, among all who share a model."""

    @property
    def visitor(self) -> Visitor | None:
        """Who is at the other end, as to rights; None where nobody asks."""

    def answer(self, call: UnaryCall, pieces: Sequence[Buffer]) -> None:
        """Sends one message and status OK."""

    def refuse(self, call: UnaryCall, code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> None:
        """Sends a status alone."""

    def offer(self, call: UnaryCall) -> Callable[[Any], Any] | None:
        """What sends one message and status OK from another thread; None if it can't be done now."""

    def delivered(self, call: UnaryCall, left: Any) -> None:
        """Takes note of what became of that."""


class Call:
    """What there is to know of one stream, used on the loop's thread; `metadata` never changes.

    `client` is whose call it is, among all who share a model; `trailers` are fields that the end of its answer has
    besides the status.
    """

    is_streaming: ClassVar[bool] = False  # whether it has many messages, both ways

    __slots__ = (
        "_connection",
        "allowed",
        "arrival_ns",
        "client",
        "content_length",
        "direct_nbytes",
        "encoding",
        "held",
        "intake",
        "is_answered",
        "is_blocked",
        "is_ended",
        "left",
        "message",
        "metadata",
        "on_cancel",
        "padding",
        "parts",
        "path",
        "queued",
        "received",
        "reserved",
        "stream_id",
        "timeout_ns",
        "trailers",
        "window",
    )

    def __init__(self, connection: Answering, stream_id: int, head: Head, arrival_ns: int, window: int) -> None:
        self._connection = connection
        self.client: Hashable = connection.client
        self.stream_id = stream_id
        self.path = head.path
        self.metadata: Fields = head.metadata
        self.timeout_ns = head.timeout_ns
        self.encoding = head.encoding
        self.content_length = head.content_length
        traceparent = head.traceparent
        self.trailers = b"" if traceparent is None else literal(_TRACEPARENT, traceparent.encode())
        self.arrival_ns = arrival_ns
        self.message: Union[bytes, memoryview] = b""
        self.on_cancel: Optional[Callable[[], None]] = None
        self.intake: Union[Intake, StreamIntake, None] = None
        self.is_ended = False  # the client has said all
        self.is_answered = False  # or cancelled
        self.received = 0  # bytes of DATA frames
        self.padding = 0  # bytes among them
        self.allowed = 0  # so many may come beyond the first window
        self.reserved = 0  # bytes of a message that was too long for the first window
        self.held = 0  # bytes of a large message that waits
        self.window = window  # how much of the answer the client takes
        self.direct_nbytes = 0  # the most that an answer past the loop may have; then what it had
        self.is_blocked = False
        self.left = 0  # bytes of `parts`
        self.queued = 0  # bytes of the buffer under them
        self.parts: List[memoryview] = []  # of the answer, not sent yet

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._connection.peer

    @property
    def visitor(self) -> Visitor | None:
        """Who is at the other end, as to rights; None where nobody asks."""
        return self._connection.visitor

    def cancel(self) -> None:
        """Tells the owner that nobody waits for the answer any more."""
        raise NotImplementedError


class UnaryCall(Call):
    """One request and its answer. `message` is the call's own and never changes.

    Exactly one of `reply`, `fail` and what `offer` gave answers it; after a cancellation they do nothing. `on_cancel`
    is called once, if the client goes away or takes the call back before it was answered.
    """

    __slots__ = ()

    intake: Optional[Intake]

    def reply(self, *pieces: Buffer) -> None:
        """Answers with one message, made of the pieces, which may be reused as soon as this returns."""
        if not self.is_answered:
            self._connection.answer(self, pieces)

    def offer(self) -> Callable[[Any], Any] | None:
        """What may be called once with a message, on any thread, to answer before `reply` could; None: nothing.

        If it gives the message back, it is still to be answered; if anything else, `delivered` is to be told.
        """
        return self._connection.offer(self)

    def delivered(self, left: Any) -> None:
        """Says on the loop's thread what sending by what `offer` gave has left."""
        self._connection.delivered(self, left)

    def fail(self, code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> None:
        """Answers with a gRPC status, such as NOT_FOUND, and no message."""
        if not self.is_answered:
            self._connection.refuse(self, code, text, metadata)

    def cancel(self) -> None:
        """Tells the owner that nobody waits for the answer any more."""
        if not self.is_answered:
            self.is_answered = True
            on_cancel, self.on_cancel = self.on_cancel, None
            try:
                if on_cancel is not None:
                    on_cancel()
            except Exception:  # the top frame of a call
                logger.exception("a gRPC call's cancellation failed")
