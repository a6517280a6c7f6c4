"""How many inferences are under way."""

from __future__ import annotations

import asyncio


class UnderWay:
    """How many inferences are under way: a drain waits for their end."""

    def __init__(self) -> None:
        self.count = 0
        self._idle: asyncio.Event | None = None  # made where it is waited for: before Python 3.10 it belongs to a loop

    def begun(self) -> None:
        """Says that an inference is under way."""
        self.count += 1

    def ended(self) -> None:
        """Says that one that had `begun` has its answer, since a moment perhaps, or needs none."""
        self.count -= 1
        if not self.count and self._idle is not None:
            self._idle.set()

    async def idle(self) -> None:
        """Returns when none is under way."""
        while self.count:
            self._idle = self._idle or asyncio.Event()
            self._idle.clear()
            await self._idle.wait()
