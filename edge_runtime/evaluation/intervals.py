"""Confidence intervals."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import List, Tuple


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Tuple[float, float]:
    """Where a proportion lies, by its score interval; (0, 1) without any observation.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209.
    """
    if n == 0:
        return 0.0, 1.0
    z = _quantile(confidence)
    share = successes / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def student_quantile(confidence: float, degrees: float) -> float:
    """Half the width of a two-sided interval by Student's t, in standard errors; `degrees` needn't be whole.

    Source: the density integrated by Simpson's rule, and the quantile found by halving; true to five digits from one
    degree of freedom on.
    """
    wanted = (1 + confidence) / 2
    low, high = 0.0, 1.0
    while _student_share(high, degrees) < wanted and high < _FARTHEST:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_share(middle, degrees) < wanted else (low, middle)
    return high


_FARTHEST = 1 << 20
_STEPS = 400  # even


def _student_share(x: float, degrees: float) -> float:
    """How much of the distribution lies below `x`, by the substitution t = sqrt(degrees) tan(angle)."""
    angle = math.atan(x / math.sqrt(degrees))
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    step = angle / _STEPS
    heights: List[float] = [math.cos(step * index) ** (degrees - 1) for index in range(_STEPS + 1)]
    weights = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
    return 0.5 + scale * weights * step / 3
