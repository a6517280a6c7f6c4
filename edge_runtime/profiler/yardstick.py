"""A fixed piece of work whose time says how fast the machine is at this moment, whatever is benchmarked.

On a shared machine a neighbour on the same core slows every call by tens of percent for seconds or minutes. Calls are
compared with those of another hour only where the yardstick says that the machine was as fast.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.evaluation.latency import Clock

NAME = "sort 5,000 doubles"
_SIZE = 5_000


class Yardstick:
    """Sorts the same 40 kB over and over, on one thread: about 0.05 ms, in the caches, without a library of threads."""

    def __init__(self) -> None:
        self._values = np.random.default_rng(0).standard_normal(_SIZE)

    def read(self, clock: Clock) -> int:
        """Nanoseconds that it takes now."""
        start_ns = clock()
        np.sort(self._values)
        return max(1, clock() - start_ns)
