"""When something is due next, by a clock of one's own."""

from __future__ import annotations

import asyncio
from typing import Callable


class Alarm:
    """Calls `ring` when what `next_ns` gives has come, and asks again then; all of it is on the loop's thread.

    `next_ns` gives the time of `clock` at which something is due, or None; it is asked whenever `set` is called.
    """

    def __init__(self, clock: Callable[[], int], next_ns: Callable[[], int | None], ring: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._next_ns = next_ns
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """Sees to it that it rings in time for what may have become due since."""
        due_ns = self._next_ns()
        if due_ns is None:
            return
        at = self._loop.time() + max(0, due_ns - self._clock()) / 1e9
        if self._timer is None or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._rung)

    def _rung(self) -> None:
        self._timer = None
        self._ring()
        self.set()
