"""When a request that was refused for now is sent again; for every way to wait."""

from __future__ import annotations

import random
import time
from typing import Callable

from edge_runtime.client.request import Hurry
from edge_runtime.errors import ServerUnavailableError

_FIRST_WAIT_S = 0.002
_LONGEST_WAIT_S = 2.0


class Retries:
    """One call's budget: how often it may be sent again, and until when.

    Args:
        count: how often at most.
        hurry: the call's.
        timeout_s: how long all attempts may take where the call has no deadline.
        clock: seconds from any start.
        chance: a number from 0 to 1, by which clients that were refused together come back apart.
    """

    def __init__(
        self,
        count: int,
        hurry: Hurry,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._left = count
        self._hurry = hurry
        self._clock = clock
        self._chance = chance
        self._start = clock()
        deadline_ms = hurry.deadline_ms
        self._limit_s = timeout_s if deadline_ms is None else deadline_ms / 1e3
        self._wait_s = _FIRST_WAIT_S

    def wait_s(self, error: ServerUnavailableError) -> float | None:
        """How long to wait before the next attempt; None: there is none, and the error is the call's."""
        if not self._left:
            return None
        self._left -= 1
        backoff_s = self._wait_s * (1 + self._chance())
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        wait_s = max(backoff_s, error.retry_after_s)
        return wait_s if self._elapsed_s() + wait_s < self._limit_s else None

    def hurry(self) -> Hurry:
        """That of the next attempt: what is left of the call's."""
        return self._hurry.after(self._elapsed_s())

    def _elapsed_s(self) -> float:
        return self._clock() - self._start
