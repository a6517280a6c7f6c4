"""How a model's requests fared in the last seconds: how long they waited, and how many missed."""

from __future__ import annotations

from collections import deque
from typing import Deque, NamedTuple, Tuple

from edge_runtime.server.statistics import Totals

_FEWEST = 20  # requests that a share is of: one alone that is refused says little


class _Sums(NamedTuple):
    at_ns: int
    answered: int
    waited_ns: int
    missed: int
    asked: int


class RecentDemand:
    """Differences between a model's counters now and `window_s` ago; one thread uses it."""

    def __init__(self, window_s: float) -> None:
        self._window_ns = round(window_s * 1e9)
        self._sums: Deque[_Sums] = deque()

    def clear(self) -> None:
        """Forgets what was before the next `take`."""
        self._sums.clear()

    def take(self, totals: Totals, waiting: int, now_ns: int) -> Tuple[float | None, float | None]:
        """The mean wait in ms of what was answered, and the share of what was refused or late, of at least 20.

        None is unknown: the wait while requests wait and none is answered, both before anything was seen.
        """
        refused = totals.failures["REJECTED"]
        now = _Sums(now_ns, totals.success, totals.parts_ns[0], refused + totals.late, refused + totals.success)
        while len(self._sums) > 1 and self._sums[1].at_ns <= now_ns - self._window_ns:
            self._sums.popleft()
        self._sums.append(now)
        first = self._sums[0]
        if first is now:
            return None, None
        answered = now.answered - first.answered
        wait_ms = (now.waited_ns - first.waited_ns) / answered / 1e6 if answered else None if waiting else 0.0
        return wait_ms, (now.missed - first.missed) / max(now.asked - first.asked, _FEWEST)
