"""How far the board is from the temperature at which it throttles, and how fast it gets there."""

from __future__ import annotations

import math
import re
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Deque, Dict, Tuple

from edge_runtime.device.telemetry.sample import Stamped, TelemetrySample

_MEMORY_S = 30.0
_SPACING_S = 1.0
_FEWEST, _SHORTEST_S = 5, 5.0
# The always-on domain's zone reads about 10 degrees too high on a Nano and throttles nothing.
_NO_SOURCE = re.compile(r"AO([-_].*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Headroom:
    """Degrees that the zone nearest to its trip point is below it; `slope_c_per_s` is None for the first 5 s."""

    headroom_c: float
    zone: str
    slope_c_per_s: float | None


class HeadroomWatch:
    """Follows the zones that have a trip point; one reading a second is kept, for 30 s."""

    def __init__(self) -> None:
        self._points: Dict[str, Deque[Tuple[float, float]]] = {}

    def update(self, stamped: Stamped) -> Headroom | None:
        """Takes a sample in; None where no zone with a trip point has a temperature."""
        at_s, sample = stamped.at_ns / 1e9, stamped.sample
        read = _temperatures_c(sample)
        for zone, temp_c in read.items():
            self._keep(self._points.setdefault(zone, deque()), at_s, temp_c)
        if not read:
            return None
        zone = min(read, key=lambda name: (sample.trips_c[name] - read[name], name))
        return Headroom(sample.trips_c[zone] - read[zone], zone, _slope(self._points[zone]))

    @staticmethod
    def _keep(points: Deque[Tuple[float, float]], at_s: float, temp_c: float) -> None:
        if points and at_s < points[-1][0]:
            points.clear()  # another clock
        while points and at_s - points[0][0] > _MEMORY_S:
            points.popleft()
        if not points or at_s - points[-1][0] >= _SPACING_S:
            points.append((at_s, temp_c))


def _temperatures_c(sample: TelemetrySample) -> Dict[str, float]:
    return {
        zone: temp_c
        for zone, temp_c in sample.temps_c.items()
        if temp_c is not None
        and zone in sample.trips_c
        and zone not in sample.constants
        and not _NO_SOURCE.fullmatch(zone)
        and math.isfinite(temp_c - sample.trips_c[zone])
    }


def _slope(points: Deque[Tuple[float, float]]) -> float | None:
    """The median of the slopes between all pairs, which single odd readings don't move (Theil and Sen)."""
    if len(points) < _FEWEST or points[-1][0] - points[0][0] < _SHORTEST_S:
        return None
    kept = list(points)
    return statistics.median(
        (later - earlier) / (end - start)
        for index, (start, earlier) in enumerate(kept)
        for end, later in kept[index + 1 :]
    )
