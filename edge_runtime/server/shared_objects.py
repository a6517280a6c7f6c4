"""Opening POSIX shared-memory objects of others by their names."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from edge_runtime.errors import InvalidRequestError
from edge_runtime.wire.inference import clipped

_KEY = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.-]{1,200}")
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOUNTS = Path("/proc/self/mountinfo")


def opened_object(folder: str, key: str, offset: int, nbytes: int) -> int:
    """A descriptor of an object that is a file in memory, and has at least `nbytes` bytes from `offset` on.

    Raises:
        InvalidRequestError: it can't be opened as that; the text doesn't say why: that would tell of others' objects.
    """
    name = key.lstrip("/")
    refusal = InvalidRequestError(
        f"cannot open {clipped(key)} as shared memory of {clipped(nbytes)} bytes from {clipped(offset)} on; "
        "it must be an object of that size in /dev/shm that the server's user may read and write"
    )
    if not _KEY.fullmatch(name) or nbytes < 1 or offset < 0:
        raise refusal
    with contextlib.ExitStack() as undo:
        try:
            descriptor = os.open(os.path.join(folder, name), _FLAGS)  # noqa: PTH118  (no Path: it is one component)
            undo.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or not is_in_memory(found.st_dev, _MOUNTS.read_text()):
                raise refusal
        except OSError:
            raise refusal from None
        if offset > found.st_size or nbytes > found.st_size - offset:
            raise refusal
        undo.pop_all()
    return descriptor


def is_in_memory(device: int, mounts: str) -> bool:
    """Whether a device is a tmpfs, by the text of `/proc/self/mountinfo` (https://man7.org/linux/man-pages/man5/proc.5.html)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        own, _, of_filesystem = line.partition(" - ")
        if own.split()[2:3] == [wanted]:
            return of_filesystem.split()[:1] == ["tmpfs"]
    return False
