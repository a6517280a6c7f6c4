"""How long to wait before what ended is started again. Pure but for its clock."""

from __future__ import annotations

import time
from typing import Callable


class Backoff:
    """Nothing the first time, then twice as long each time; from the start again once it has lasted `settled_s`."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        first_s: float = 0.25,
        longest_s: float = 30.0,
        settled_s: float = 30.0,
    ) -> None:
        self._clock = clock
        self._first_s = first_s
        self._longest_s = longest_s
        self._settled_s = settled_s
        self._next_s = 0.0
        self._begun_s: float | None = None

    def begun(self) -> None:
        """Says that it works from now on."""
        self._begun_s = self._clock()

    def delay_s(self) -> float:
        """How long to wait, now that it has ended."""
        begun_s, self._begun_s = self._begun_s, None
        if begun_s is not None and self._clock() - begun_s >= self._settled_s:
            self._next_s = 0.0
        delay_s = self._next_s
        self._next_s = min(self._longest_s, max(self._first_s, 2 * delay_s))
        return delay_s
