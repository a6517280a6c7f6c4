"""Memory that processes share by descriptor: it has no name, and nobody can shrink it under those who read it."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from typing import Tuple

_ADD_SEALS, _GET_SEALS = 1033, 1034  # Python 3.8 has no names for these
_SEALS = 0x1 | 0x2 | 0x4  # no more seals, no shrinking, no growing
_POPULATE = 0x8000


def sealed_memory(name: str, nbytes: int) -> Tuple[int, mmap.mmap]:
    """A descriptor of memory that can't be resized, which its user closes, and the memory; `name` is for /proc.

    Raises:
        OSError: this machine has no memory or descriptor for it now.
    """
    with contextlib.ExitStack() as undo:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        undo.callback(os.close, descriptor)
        os.ftruncate(descriptor, nbytes)
        os.posix_fallocate(descriptor, 0, nbytes)
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
        memory = mmap.mmap(descriptor, nbytes, mmap.MAP_SHARED | _POPULATE)
        undo.pop_all()
    return descriptor, memory


def mapped_memory(descriptor: int) -> mmap.mmap:
    """All of the memory of a descriptor that another process made by `sealed_memory`; the descriptor isn't kept.

    Raises:
        OSError: it isn't sealed, or can't be mapped.
    """
    if fcntl.fcntl(descriptor, _GET_SEALS) & _SEALS != _SEALS:
        raise OSError("memory from another process isn't sealed against shrinking")
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size, mmap.MAP_SHARED)
