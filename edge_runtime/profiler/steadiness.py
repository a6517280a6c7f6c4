"""The part of a power trace that is steady: edges cut, the way there left out, and why it may not be one."""

from __future__ import annotations

import math

import numpy as np

from edge_runtime.profiler import batch_means
from edge_runtime.profiler.power_trace import Floats, PowerTrace

_EDGE = 2  # readings at each end that see what was before or after
_SURE = 3.0  # standard errors
_DRIFT = 0.015


def steady_part(trace: PowerTrace) -> PowerTrace | None:
    """`trace` without two readings at each end, and without the time that sensor and board took to get to the level.

    A sensor that averages (an INA3221 does so exponentially) follows a step of the load over several readings, and
    longer than two of them. It is cut off where that lessens the standard error of the rest most (K. P. White, An
    effective truncation heuristic for bias reduction in simulation output, Simulation 69 (1997), 323-334), if what is
    cut differs from the rest by more than chance; never more than half.
    """
    inner = trace.part(_EDGE, len(trace.at_s) - _EDGE)
    return None if inner is None else inner.part(_settled_at(inner.power_mw), len(inner.at_s))


def why_unsteady(part: PowerTrace) -> str | None:
    """Why the mean of `part` is none of a steady state; None if it may be."""
    covered = part.is_covered
    first, second, error = batch_means.drift(part.energies_mj()[covered], part.steps_s[covered])
    difference = abs(second - first)
    if difference <= _SURE * error or difference <= _DRIFT * abs(first + second) / 2:
        return None
    return (
        f"{part.how} power hasn't settled: {first:,.0f} mW in the first half of the window, {second:,.0f} mW in the "
        "second; warm up and measure for longer, and look whether something else runs"
    )


def _settled_at(power_mw: Floats) -> int:
    """From which reading on the level holds."""
    n = len(power_mw)
    if n < 4:
        return 0
    left = np.arange(n, 0, -1)
    from_end = power_mw[::-1] - power_mw[-1]  # near 0, so that the squares keep their digits
    sums, squares = np.cumsum(from_end)[::-1], np.cumsum(from_end**2)[::-1]
    spread = np.maximum(squares - sums**2 / left, 0.0)
    cut = int(np.argmin((spread / left**2)[: n // 2 + 1]))
    if cut == 0:
        return 0
    rest = power_mw[cut:]
    chance = _SURE * float(rest.std()) / math.sqrt(cut)
    return cut if abs(float(power_mw[:cut].mean() - rest.mean())) > chance else 0
