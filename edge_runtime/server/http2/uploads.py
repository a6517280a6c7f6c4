"""How much the client may send: windows that grow as long as not too much waits unanswered."""

from __future__ import annotations

from typing import Callable, Dict

from edge_runtime.server.http2.call import Call
from edge_runtime.server.http2.faults import FLOW_CONTROL_ERROR, Http2Error
from edge_runtime.server.http2.frames import window_update
from edge_runtime.server.http2.intake import PREFIX_NBYTES
from edge_runtime.server.http2.limits import Http2Limits

_SMALL_NBYTES = 16 << 10  # messages up to this aren't counted: the number of streams bounds them


class Uploads:
    """The windows of one connection for what it receives.

    A stream's first window is for messages of usual size. A larger one gets the rest in one piece, when its length is
    known and no more than the limit waits already; until then it stops by itself. The connection's own window is
    refilled in batches, unless too much waits for answers.
    """

    __slots__ = (
        "_batch",
        "_budget",
        "_held",
        "_put",
        "_reserved",
        "_unacknowledged",
        "_waiting",
        "_window",
        "first_window",
    )

    def __init__(self, limits: Http2Limits, put: Callable[[bytes], None]) -> None:
        self._put = put
        self.first_window = limits.stream_window_bytes
        self._window = limits.connection_window_bytes
        self._batch = limits.connection_window_bytes // 2
        self._budget = limits.max_unanswered_bytes
        self._unacknowledged = 0
        self._held = 0
        self._reserved = 0
        self._waiting: Dict[int, Call] = {}

    def take(self, nbytes: int) -> None:
        """Counts the payload of a DATA frame, whatever becomes of it.

        Raises:
            Http2Error: more than the connection's window.
        """
        self._unacknowledged += nbytes
        if self._unacknowledged > self._batch:
            if self._unacknowledged > self._window:
                raise Http2Error(FLOW_CONTROL_ERROR, "more data than the connection's window")
            self._refill()

    def allow(self, call: Call, nbytes: int) -> None:
        """Lets a call send so much more than its first window."""
        call.allowed += nbytes
        self._put(window_update(call.stream_id, nbytes))

    def allow_again(self, call: Call, nbytes: int, missing: int) -> bool:
        """Lets a call on a stream of many messages send so much once more, if that is half of its window or needed.

        `missing` is how much of a message must still come.
        """
        is_needed = missing > self.first_window + call.allowed - call.received
        if not nbytes or (2 * nbytes < self.first_window and not is_needed):
            return False
        self.allow(call, nbytes)
        return True

    def announce(self, call: Call, nbytes: int) -> None:
        """Opens the window for a message of that length, now or when there is room."""
        if nbytes + PREFIX_NBYTES > self.first_window:
            call.reserved = nbytes
            self._waiting[call.stream_id] = call
            self._grant()

    def hold(self, call: Call) -> None:
        """Counts a whole message until `release`."""
        nbytes = len(call.message)
        if nbytes > _SMALL_NBYTES:
            call.held = nbytes
            self._held += nbytes

    def release(self, call: Call) -> None:
        """Forgets a call's message, and lets others come in its place."""
        if call.held:
            self._held -= call.held
            call.held = 0
            if self._unacknowledged > self._batch:
                self._refill()
        if call.reserved:
            if self._waiting.pop(call.stream_id, None) is None:
                self._reserved -= call.reserved
            call.reserved = 0
            self._grant()

    def _refill(self) -> None:
        if self._held <= self._budget:
            self._put(window_update(0, self._unacknowledged))
            self._unacknowledged = 0

    def _grant(self) -> None:
        for stream_id, call in list(self._waiting.items()):
            if self._reserved and self._reserved + call.reserved > self._budget:
                return
            del self._waiting[stream_id]
            self._reserved += call.reserved
            self.allow(call, call.reserved)
