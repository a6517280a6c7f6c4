"""One stream of many requests, each answered by one message, in the order of the requests."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, ClassVar, Optional, Protocol, Sequence, Tuple, Union

from edge_runtime.server.http2.call import Answering, Buffer, Call, UnaryCall
from edge_runtime.server.http2.compression import decompressed
from edge_runtime.server.http2.faults import CallRefusedError
from edge_runtime.server.http2.head import Head
from edge_runtime.server.http2.intake import PREFIX_NBYTES
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.outbox import Outbox
from edge_runtime.server.http2.stream_intake import StreamIntake
from edge_runtime.server.http2.turns import Turns
from edge_runtime.server.http2.uploads import Uploads

Refusal = Tuple[str, str, Sequence[Tuple[str, str]]]
Gate = Callable[[Head], Optional[Tuple[str, str]]]


class Bearer(Answering, Protocol):
    """What a stream knows of its connection."""

    limits: Http2Limits
    now_ns: int
    outbox: Outbox
    uploads: Uploads


class Carrier(Protocol):
    """What a stream does to its connection."""

    @property
    def connection(self) -> Bearer:
        """The connection."""

    def send(self, call: StreamCall, pieces: Sequence[Buffer]) -> None:
        """Sends a message, which waits in the outbox if it must."""

    def finish(self, call: StreamCall, refusal: Optional[Refusal]) -> None:
        """Ends the stream with a status, None being OK; if a message is under way, with a reset."""

    def resume_soon(self, call: StreamCall) -> None:
        """Has `resume` called when others had their turn."""


class StreamCall(Call):
    """Hands over each message as a `UnaryCall`, and sends their answers in the order of the messages.

    A call that fails ends the stream with its status: those before it are answered, those behind it are cancelled.
    As many requests as the limits say are under way: not answered yet, or their answers not sent.
    """

    is_streaming: ClassVar[bool] = True

    __slots__ = (
        "_carrier",
        "_deliver",
        "_due",
        "_gate",
        "_head",
        "_limits",
        "_refusal",
        "_seen",
        "_taken",
        "_turns",
        "is_open",
    )

    intake: StreamIntake

    def __init__(
        self, carrier: Carrier, stream_id: int, head: Head, deliver: Callable[[UnaryCall], None], gate: Gate
    ) -> None:
        connection = carrier.connection
        super().__init__(connection, stream_id, head, connection.now_ns, connection.outbox.initial_window)
        self._carrier = carrier
        self._limits = connection.limits
        self._head = head
        self._deliver = deliver
        self._gate = gate
        self._turns = Turns(connection.outbox, connection.uploads)
        self._due = 0  # bytes that the client isn't allowed again yet
        self._taken = 0  # messages
        self._seen = (0, 0)  # how many they were when the one under way was first seen, and when that was
        self._refusal: Optional[Refusal] = None  # what ends the stream when all that is under way has gone out
        self.is_open = False  # the head of the answers has gone out
        self.intake = StreamIntake(self._limits.max_message_bytes, self)

    @property
    def may_take(self) -> bool:
        """Whether another request may be taken in."""
        count = len(self._turns) + (1 if self.left else 0)
        is_full = count >= self._limits.max_stream_requests or self._turns.nbytes >= self._limits.max_stream_bytes
        return not is_full and self._refusal is None and not self.is_answered

    def feed(self, piece: memoryview) -> None:
        """Takes in what came."""
        self._advance(partial(self.intake.feed, piece, self._carrier.connection.now_ns))

    def resume(self) -> None:
        """Takes in what had to wait."""
        if not self.is_answered:
            self._advance(self.intake.resume)
            if self.is_ended:
                self.end()

    def take(self, message: Union[bytes, memoryview], is_compressed: bool, begun_ns: int) -> None:
        """Hands over a whole message; called by the intake."""
        self._taken += 1
        self._due += PREFIX_NBYTES + len(message) - self.reserved
        self._carrier.connection.uploads.release(self)
        refusal = self._gate(self._head)  # again: a token may have been taken back since
        if refusal is not None:
            self.fail(*refusal)
            return
        self.client = self._carrier.connection.client
        if is_compressed:
            try:
                message = decompressed(message, self.encoding, self._limits.max_message_bytes)
            except CallRefusedError as fault:
                self.fail(fault.status, str(fault))
                return
        request = UnaryCall(self, self.stream_id, self._head, begun_ns, 0)
        request.message = message
        if self.timeout_ns is not None:
            request.timeout_ns = max(0, self.timeout_ns - (begun_ns - self.arrival_ns))
        self._turns.add(request)
        self._deliver(request)

    def end(self) -> None:
        """Takes note that the client adds nothing to what has come."""
        if not self.intake.backlog and self.intake.missing:
            self.fail("INVALID_ARGUMENT", "the stream ended in the middle of a message")
        else:
            self.go_on()

    def answer(self, call: UnaryCall, pieces: Sequence[Buffer]) -> None:
        """Sends an answer when it is its turn; called by `UnaryCall.reply`."""
        outbox, uploads = self._carrier.connection.outbox, self._carrier.connection.uploads
        waiting = outbox.queued_bytes + outbox.waiting_bytes
        if waiting and waiting + sum(memoryview(piece).nbytes for piece in pieces) > self._limits.max_output_bytes:
            self.refuse(call, "RESOURCE_EXHAUSTED", "too many answers wait for the client to take them")
            return
        call.is_answered = True
        call.on_cancel = None
        uploads.release(call)
        if not self.left and self._turns.is_next(call):
            self._turns.skip()
            self._carrier.send(self, pieces)
        else:
            self._turns.keep(call, b"".join(pieces))
        call.message = b""
        self.go_on()

    def refuse(self, call: UnaryCall, code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> None:
        """Ends the stream in a request's place; called by `UnaryCall.fail`."""
        call.is_answered = True
        self._turns.cancel(call)
        self._refusal = None
        self.fail(code, text, metadata)

    def offer(self, call: UnaryCall) -> Callable[[Any], Any] | None:  # noqa: ARG002
        """Nothing: only the loop knows whose turn it is."""
        return None

    def delivered(self, call: UnaryCall, left: Any) -> None:
        """Nothing was offered."""

    def fail(self, code: str, text: str, metadata: Sequence[Tuple[str, str]] = ()) -> None:
        """Takes in no more, and ends the stream with a status once all that is under way has its answer."""
        if self._refusal is None and not self.is_answered:
            self._refusal = (code, text, metadata)
            self.intake.close()
            self._carrier.connection.uploads.release(self)
            self.go_on()

    def cancel(self) -> None:
        """Cancels all that is under way."""
        self.is_answered = True
        self._turns.cancel()

    def check(self, now_ns: int) -> None:
        """Ends a stream that takes longer than the client said, or on which a message comes too slowly."""
        patience_s = self._limits.body_timeout_s
        if self.timeout_ns is not None and now_ns - self.arrival_ns > self.timeout_ns:
            self.cancel()
            self._carrier.finish(self, ("DEADLINE_EXCEEDED", "the stream's time is over", ()))
        elif not self.intake.missing or self._seen[0] != self._taken:
            self._seen = (self._taken, now_ns)
        elif now_ns - self._seen[1] > patience_s * 1e9:
            self.fail("DEADLINE_EXCEEDED", f"the message didn't come within {patience_s:g} s")

    def go_on(self) -> None:
        """Sends what is next, takes in more, and ends the stream when there is nothing left to do."""
        if self.is_answered:
            return
        while not self.left:
            answer = self._turns.take()
            if answer is None:
                break
            self._carrier.send(self, (answer,))
        is_last = self._refusal is not None or (self.is_ended and not self.intake.backlog and not self.intake.missing)
        if is_last and not self.left and not self._turns:
            self._carrier.finish(self, self._refusal)
        elif self.intake.backlog and self.may_take:
            self._carrier.resume_soon(self)

    def _advance(self, step: Callable[[], None]) -> None:
        intake, uploads = self.intake, self._carrier.connection.uploads
        try:
            step()
        except CallRefusedError as fault:
            self.fail(fault.status, str(fault))
        if self._refusal is not None or self.is_answered:
            return
        if not self.is_ended:
            if uploads.allow_again(self, self._due, intake.missing):
                self._due = 0
            if intake.announced > 0 and not self.reserved:
                uploads.announce(self, intake.announced)
        if intake.backlog and self.may_take:
            self._carrier.resume_soon(self)
