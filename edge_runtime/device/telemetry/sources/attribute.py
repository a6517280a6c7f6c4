"""A file of sysfs or procfs that is read again and again, with its descriptor kept open."""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import FrozenSet

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_ABSENT = -1
_SHORT = 64
_BEYOND = 1 << 63


class Attribute:
    """One plain file. What can't be read now is None, and is tried anew at the next reading.

    It holds a descriptor from the first successful reading until `close`.
    """

    __slots__ = ("_can_be_replaced", "_descriptor", "_limit", "path")

    def __init__(self, path: Path, limit: int = _SHORT) -> None:
        self.path = path
        self._limit = limit
        self._descriptor = _ABSENT
        self._can_be_replaced = True

    def content(self) -> bytes | None:
        """The first `limit` bytes as they are now."""
        if self._descriptor != _ABSENT:
            try:
                if not self._can_be_replaced or os.fstat(self._descriptor).st_nlink:
                    return os.pread(self._descriptor, self._limit, 0)
            except OSError as error:
                if error.errno == errno.EAGAIN:  # a sensor whose domain is off says so, and is still there
                    return None
            self.close()
        return self._content_anew()

    def number(self) -> int | None:
        """The whole number that the file holds; None for anything else."""
        content = self.content()
        try:
            number = None if content is None else int(content)
        except ValueError:
            return None
        return number if number is not None and abs(number) < _BEYOND else None

    def text(self) -> str | None:
        """The content as one line of text."""
        content = self.content()
        return None if content is None else content.decode(errors="replace").strip(" \n\t\0")

    def close(self) -> None:
        """Gives the descriptor back; the next reading opens the file again."""
        if self._descriptor != _ABSENT:
            os.close(self._descriptor)
            self._descriptor = _ABSENT

    def _content_anew(self) -> bytes | None:
        try:
            descriptor = os.open(self.path, _FLAGS)
        except (OSError, ValueError):
            return None
        content = None
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                content = os.pread(descriptor, self._limit, 0)
                self._can_be_replaced = status.st_dev not in _kernel_devices()
        except OSError:
            content = None
        if content is None:
            os.close(descriptor)
        else:
            self._descriptor = descriptor
        return content


@lru_cache(maxsize=None)
def _kernel_devices() -> FrozenSet[int]:
    """Where a file that is gone says so when it is read: an open one there needs no look at its links each time."""
    found = set()
    for place in ("/sys", "/proc"):
        try:
            found.add(Path(place).stat().st_dev)
        except OSError:
            continue
    return frozenset(found)
