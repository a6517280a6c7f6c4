"""Energy since the server began: power over the time between samples, but not over gaps."""

from __future__ import annotations

_LONGEST_STEP = 3.0  # intervals; one sample that was lost is bridged


class EnergyCounter:
    """Adds trapezoids of power; what lies between samples too far apart isn't known, and isn't added.

    Args:
        interval_s: how often a sample comes.
    """

    def __init__(self, interval_s: float) -> None:
        self._longest_ns = _LONGEST_STEP * interval_s * 1e9
        self._last: tuple[int, float] | None = None
        self.joules: float | None = None

    def add(self, at_ns: int, power_mw: float | None) -> None:
        """Takes a sample's total power; None where it isn't known."""
        last, self._last = self._last, None if power_mw is None else (at_ns, power_mw)
        if power_mw is None:
            return
        if self.joules is None:
            self.joules = 0.0
        if last is not None and 0 < at_ns - last[0] <= self._longest_ns:
            self.joules += max(0.0, (last[1] / 2e3 + power_mw / 2e3) * ((at_ns - last[0]) / 1e9))
