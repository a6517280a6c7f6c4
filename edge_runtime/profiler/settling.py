"""How long an engine takes from its first call until its latency is what it stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_WINDOW = 5
_NEAR = 1.1


@dataclass(frozen=True)
class Settling:
    """The warm-up: how many of its calls came before latency was stable, and the slowest of these.

    `calls` is None where that wasn't reached in the first half, or too few calls were made to say.
    """

    warm_up: int
    calls: int | None
    slowest_ms: float
    settled_ms: float

    @property
    def text(self) -> str:
        """In words, for a table."""
        slowest = f"slowest {self.slowest_ms:.3f} ms, then {self.settled_ms:.3f} ms"
        if self.calls is None:
            return f"{self.warm_up:,} calls, not stable in their first half; raise --warm-up ({slowest})"
        return f"{self.warm_up:,} calls, stable after {self.calls:,} ({slowest})"


def settling(latency_ns: npt.NDArray[Any]) -> Settling:
    """When the calls of a warm-up, one at least and in order, became stable.

    That is the first one from which on the median of five is within a tenth of the median of the second half.
    """
    count = len(latency_ns)
    settled_ns = float(np.median(latency_ns[count // 2 :]))
    last = count // 2 if count >= 2 * _WINDOW else -1
    calls = next(
        (index for index in range(last + 1) if np.median(latency_ns[index : index + _WINDOW]) <= _NEAR * settled_ns),
        None,
    )
    return Settling(count, calls, float(latency_ns.max()) / 1e6, settled_ns / 1e6)
