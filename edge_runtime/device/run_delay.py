"""How long a thread was ready to run and had no core, as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path

UNKNOWN = -1


class RunDelay:
    """The run-queue delay of the thread that opens it, in `schedstat` (Linux with SCHED_INFO); a context manager.

    The file is kept open: to read it takes 1-4 µs. A thread's resource usage takes half of that, but counts switches
    only, not how long they took.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(root / "proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            return
        if self._numbers()[:1] in ([], [0]):  # a kernel that doesn't count says 0, also of time on a core
            self.close()

    def read_ns(self) -> int:
        """Nanoseconds since the thread began; `UNKNOWN` where the kernel doesn't say."""
        numbers = self._numbers()
        return numbers[1] if len(numbers) > 1 else UNKNOWN

    def close(self) -> None:
        """Closes the file; idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _numbers(self) -> list[int]:
        if self._descriptor is None:
            return []
        try:
            return [int(word) for word in os.pread(self._descriptor, 128, 0).split()]
        except (OSError, ValueError):
            return []

    def __enter__(self) -> RunDelay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
