"""One process at a time that builds all plans of a store; a second one is told which has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Iterator

from edge_runtime.errors import PlanError, StoreBusyError
from edge_runtime.plan.files import make_folder

LOCK = ".building"


@contextlib.contextmanager
def store_turn(engines: Path) -> Iterator[None]:
    """Holds a store for the length of the block; the lock ends with the process, however that ends.

    Raises:
        StoreBusyError: another process has it.
        PlanError: the store can't be written.
    """
    path = engines / LOCK
    try:
        make_folder(engines)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise PlanError(f"{path}: can't be written ({error.strerror}); nothing was built") from error
    try:
        _take(handle, engines)
        for stray in engines.glob(".*.tmp"):
            stray.unlink()
        yield
    finally:
        os.close(handle)


def _take(handle: int, engines: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
        who = f"process {owner}" if owner.isdecimal() else "another process"
        raise StoreBusyError(f"{engines}: {who} builds its plans; try again when that has ended") from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
