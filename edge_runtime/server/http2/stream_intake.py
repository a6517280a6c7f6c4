"""The messages of one stream, cut out of what arrives on it."""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional, Protocol, Tuple, Union

from edge_runtime.server.http2.intake import PREFIX, PREFIX_NBYTES, Intake

_QUANTUM = 64  # messages in one go: then other streams have their turn
_MARKED_NBYTES, _MARKED_NS = 256, 1_000_000  # what came less apart counts as having come at once
_unpack_prefix = PREFIX.unpack_from


class Taking(Protocol):
    """Who gets the messages."""

    @property
    def may_take(self) -> bool:
        """Whether another message may begin."""

    def take(self, message: Union[bytes, memoryview], is_compressed: bool, begun_ns: int) -> None:
        """Takes a whole message whose first byte came at `begun_ns`."""


class StreamIntake:
    """Gives messages one by one, as they become whole; what begins while none may be taken waits as it came.

    Attributes:
        backlog: what waits.
        begun_ns: when the first byte of the message came that isn't whole yet.
    """

    __slots__ = ("_backlog_at", "_is_closed", "_marks", "_max_bytes", "_owner", "_partial", "backlog", "begun_ns")

    def __init__(self, max_bytes: int, owner: Taking) -> None:
        self._max_bytes = max_bytes
        self._owner = owner
        self._partial: Optional[Intake] = None
        self._marks: Deque[Tuple[int, int]] = deque()  # from which byte on, when it came
        self._backlog_at = 0  # bytes before the backlog
        self._is_closed = False
        self.backlog = bytearray()
        self.begun_ns = 0

    @property
    def missing(self) -> int:
        """Bytes that are missing of a message that has begun, as far as its length is known; 0: none has."""
        return 0 if self._partial is None else self._partial.missing

    @property
    def announced(self) -> int:
        """Bytes of the message that has begun; -1: none has, or its length isn't known."""
        return -1 if self._partial is None else self._partial.nbytes

    def feed(self, piece: memoryview, now_ns: int) -> None:
        """Takes in what came.

        Raises:
            CallRefusedError: a message over the limit, or what isn't one.
        """
        if not self.backlog:
            piece = piece[self._cut(piece, now_ns) :]
        if piece and not self._is_closed:
            self._keep(piece, now_ns)

    def resume(self) -> None:
        """Takes messages out of what waits, as far as they may be taken and others don't have to wait for that.

        Raises:
            CallRefusedError: as `feed` does.
        """
        backlog = self.backlog
        used = self._cut(memoryview(backlog), None)
        if self.backlog is backlog:
            del backlog[:used]
            self._backlog_at += used
            if not backlog:
                self._marks.clear()

    def room(self, count: int, least: int) -> Optional[memoryview]:
        """Where up to `count` bytes of the message that has begun may be received straight to, as of an `Intake`."""
        return None if self._partial is None else self._partial.room(count, least)

    def received(self, count: int) -> None:
        """Counts what was received to `room`; a message that is whole by that is given by the next `feed`."""
        assert self._partial is not None
        self._partial.received(count)

    def close(self) -> None:
        """Forgets what waits, and takes in no more."""
        self._is_closed = True
        self._partial = None
        self.backlog = bytearray()
        self._marks.clear()

    def _cut(self, data: memoryview, came_ns: Optional[int]) -> int:
        """Takes messages out of what came at `came_ns`, or out of the backlog; gives how many bytes they were."""
        position, end, budget = 0, len(data), _QUANTUM
        if self._partial is not None and not self._partial.missing:
            self._finish(self._partial)
        while position < end:
            if self._partial is None:
                if not budget or not self._owner.may_take:
                    break
                budget -= 1
                begun_ns = self._came_ns(position) if came_ns is None else came_ns
                stop = self._whole(data, position)
                if stop:
                    self._owner.take(bytes(data[position + PREFIX_NBYTES : stop]), False, begun_ns)
                    position = stop
                    continue
                self._partial, self.begun_ns = Intake(self._max_bytes), begun_ns
            partial = self._partial
            count = min(partial.missing, end - position)
            partial.feed(data[position : position + count], 0)
            position += count
            if not partial.missing:
                self._finish(partial)
        return position

    def _whole(self, data: memoryview, position: int) -> int:
        """Where the message at a position ends; 0 if it isn't all there, or is of another kind than most."""
        if len(data) - position < PREFIX_NBYTES:
            return 0
        flag, nbytes = _unpack_prefix(data, position)
        stop: int = position + PREFIX_NBYTES + nbytes
        return 0 if flag or nbytes > self._max_bytes or stop > len(data) else stop

    def _finish(self, partial: Intake) -> None:
        self._partial = None
        self._owner.take(partial.message(), partial.is_compressed, self.begun_ns)

    def _keep(self, piece: memoryview, now_ns: int) -> None:
        end = self._backlog_at + len(self.backlog)
        last_at, last_ns = self._marks[-1] if self._marks else (0, 0)
        if not self._marks or (end - last_at >= _MARKED_NBYTES and now_ns - last_ns >= _MARKED_NS):
            self._marks.append((end, now_ns))
        self.backlog += piece

    def _came_ns(self, offset: int) -> int:
        marks, at = self._marks, self._backlog_at + offset
        while len(marks) > 1 and marks[1][0] <= at:
            marks.popleft()
        return marks[0][1]
