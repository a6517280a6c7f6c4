"""The latency of many calls as a picture needs it: a histogram, and a timeline that isn't too long."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_BINS = 60
_WIDE = 4.0


def histogram(latency_ns: Array) -> Dict[str, Any]:
    """Edges in milliseconds and the calls between them; equal ratios instead of equal steps where they lie far apart.

    Every call is in a bin; the last one includes its upper edge.
    """
    values = latency_ns / 1e6
    low, high = float(values.min()), float(values.max())
    if high <= low:
        high = low + max(low, 1e-6) * 1e-3
    spread = np.geomspace if low > 0 and high > _WIDE * low else np.linspace
    edges = spread(low, high, _BINS + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(values, edges)
    return {"edges_ms": edges.tolist(), "counts": counts.tolist()}


def thinned(count: int, keep: Array, most: int) -> Array:
    """The numbers of at most about `most` calls of so many, evenly spread, and of all that must be kept."""
    if count <= most:
        return np.arange(count)
    spread = np.linspace(0, count - 1, max(most - len(keep), 2)).astype(np.int64)
    return np.union1d(spread, keep)


def timeline(start_s: Array, latency_ns: Array, keep: Array, most: int = 5000) -> Dict[str, Any]:
    """When each call should have begun and how long it took; thinned above `most`, but with all of `keep`."""
    chosen = thinned(len(latency_ns), keep, most)
    return {
        "start_s": start_s[chosen].tolist(),
        "latency_ms": (latency_ns[chosen] / 1e6).tolist(),
        "thinned": len(chosen) < len(latency_ns),
    }
