"""Requests of one stream that are under way, and the answers that wait for their turn."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, Optional

from edge_runtime.server.http2.call import UnaryCall
from edge_runtime.server.http2.outbox import Outbox
from edge_runtime.server.http2.uploads import Uploads


class Turns:
    """Requests in order. `nbytes` is what they and their answers hold; of the answers the outbox is told too."""

    __slots__ = ("_answers", "_outbox", "_requests", "_uploads", "nbytes")

    def __init__(self, outbox: Outbox, uploads: Uploads) -> None:
        self._outbox = outbox
        self._uploads = uploads
        self._requests: Deque[UnaryCall] = deque()
        self._answers: Dict[UnaryCall, bytes] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: UnaryCall) -> None:
        """Puts a request behind the others."""
        self._requests.append(request)
        self.nbytes += len(request.message)

    def is_next(self, request: UnaryCall) -> bool:
        """Whether no other is before it."""
        return self._requests[0] is request

    def keep(self, request: UnaryCall, answer: bytes) -> None:
        """Keeps the answer of a request until its turn, in place of its message."""
        self._answers[request] = answer
        self._outbox.waiting_bytes += len(answer)
        self.nbytes += len(answer) - len(request.message)

    def skip(self) -> None:
        """Takes out the next request, whose answer wasn't kept."""
        self.nbytes -= len(self._requests.popleft().message)

    def take(self) -> Optional[bytes]:
        """Takes out the next request, and gives its answer; None if it has none yet, or there is no request."""
        if not self._requests:
            return None
        answer = self._answers.pop(self._requests[0], None)
        if answer is not None:
            self._requests.popleft()
            self._forget(answer)
        return answer

    def cancel(self, first: Optional[UnaryCall] = None) -> None:
        """Takes out a request and all behind it, or all there are, and cancels those that have no answer."""
        while self._requests:
            request = self._requests.pop()
            answer = self._answers.pop(request, None)
            if answer is None:
                self.nbytes -= len(request.message)
                self._uploads.release(request)
                request.cancel()
            else:
                self._forget(answer)
            if request is first:
                return

    def _forget(self, answer: bytes) -> None:
        self.nbytes -= len(answer)
        self._outbox.waiting_bytes -= len(answer)
