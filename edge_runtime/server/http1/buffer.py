"""What a connection has received and nobody has taken yet."""

from __future__ import annotations

_NBYTES = 1 << 16
_KEPT_NBYTES = 1 << 22


class ReceiveBuffer:
    """Memory that a transport receives into. Bytes from `start` to `end` are there and not taken yet.

    Views on `data` hold for as long as somebody has them: where they might, the memory is replaced and never moved.
    """

    __slots__ = ("data", "end", "start", "view")

    def __init__(self) -> None:
        self.data = bytearray(_NBYTES)
        self.view = memoryview(self.data)
        self.start = 0
        self.end = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be received until some is taken."""
        return self.end == len(self.data)

    def make_room(self, nbytes: int) -> int:
        """Sees to it that `nbytes` fit in from `start` on; by how much that moved what is there to the front."""
        moved = 0
        if self.start + nbytes > len(self.data):
            moved = self.start
            self.drop(moved)
        if nbytes > len(self.data):
            self._replace(nbytes)
        return moved

    def extend(self, nbytes: int) -> None:
        """Has room for so much more behind what is there, which stays where views on it may be."""
        self._replace(self.end + nbytes)

    def drop(self, start: int) -> None:
        """Forgets what is before `start`, and moves the rest to the front; nobody has views on it any more."""
        left = self.end - start
        if start and left:
            self.view[:left] = bytes(self.view[start : self.end])
        self.start, self.end = 0, left

    def rest(self) -> None:
        """Begins at the front again if all is taken, and gives back memory that one large request needed."""
        if self.start == self.end:
            self.start = self.end = 0
            if len(self.data) > _KEPT_NBYTES:
                self._replace(_NBYTES)

    def _replace(self, nbytes: int) -> None:
        data = bytearray(nbytes)
        data[: self.end] = self.view[: self.end]
        self.data, self.view = data, memoryview(data)
