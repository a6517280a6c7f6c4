"""How much of something a client may do at once and over time."""

from __future__ import annotations


class Allowance:
    """`burst` at once, and `rate` a second after that; the clock is looked at only when the burst is spent."""

    __slots__ = ("_burst", "_per_ns", "_since_ns", "_spent")

    def __init__(self, burst: int, rate: float, now_ns: int) -> None:
        self._burst = burst
        self._per_ns = rate / 1e9
        self._spent = 0.0
        self._since_ns = now_ns

    def is_spent(self, now_ns: int) -> bool:
        """Takes one; True if there was none left."""
        self._spent += 1
        if self._spent > self._burst:
            self._spent = max(1.0, self._spent - (now_ns - self._since_ns) * self._per_ns)
            self._since_ns = now_ns
        return self._spent > self._burst
