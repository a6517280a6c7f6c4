"""How long a thread waited for a core while it could have run, as the kernel counts it."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Iterator


class RunDelay:
    """The calling thread's wait so far; one reading takes about 2 us."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def total_ns(self) -> int:
        """Nanoseconds since the thread began; always 0 where the kernel doesn't count them."""
        if self._descriptor is None:
            return 0
        fields = os.pread(self._descriptor, 128, 0).split()
        return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0


@contextlib.contextmanager
def run_delay(root: Path = Path("/")) -> Iterator[RunDelay]:
    """The counter of the calling thread, for the length of the block."""
    path = root / f"proc/self/task/{threading.get_native_id()}/schedstat"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield RunDelay(None)
        return
    try:
        yield RunDelay(descriptor)
    finally:
        os.close(descriptor)
