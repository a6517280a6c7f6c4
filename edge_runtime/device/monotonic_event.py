"""An event whose timed wait goes by the monotonic clock.

Before Python 3.11 the waits of `threading` with a timeout go by the wall clock: one that is under way when the clock
of a board is set back lasts that much longer, be it a day, and ends at once when it is set forward.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref

_LONGEST_MS = 2**31 - 1


class MonotonicEvent:
    """As `threading.Event`; two descriptors are held while it is there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._reader, self._writer = os.pipe()  # what is in it wakes all that wait
        for descriptor in (self._reader, self._writer):
            weakref.finalize(self, os.close, descriptor)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Sets it, and wakes all that wait."""
        with self._lock:
            if not self._is_set:
                self._is_set = True
                os.write(self._writer, b"\0")

    def clear(self) -> None:
        """Takes that back."""
        with self._lock:
            if self._is_set:
                self._is_set = False
                os.read(self._reader, 1)

    def wait(self, timeout_s: float) -> bool:
        """Waits until it is set, `timeout_s` at most; whether it is."""
        begun_s = time.monotonic()
        waiting = select.poll()
        waiting.register(self._reader, select.POLLIN)
        whole_ms = int(max(timeout_s, 0) * 1e3)
        if not waiting.poll(min(whole_ms, _LONGEST_MS)):
            time.sleep(max(0.0, min(timeout_s - (time.monotonic() - begun_s), 1e-3)))  # poll knows whole ms only
        return self._is_set
