"""A figure held against its goal; its percentiles say from how many samples they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from edge_runtime.evaluation.latency import LatencySummary

HELD, NOT_HELD, NOT_MEASURED, BESIDE = "held", "NOT HELD", "not measured", "-"


@dataclass(frozen=True)
class Row:
    """A line of the report. A row of `BESIDE` shows what another server does, and is held against nothing."""

    figure: str
    goal: str
    measured: str
    n: int
    verdict: str
    server: str = "ours"


def verdict_of(is_held: bool) -> str:
    """Its word."""
    return HELD if is_held else NOT_HELD


def tail_of(latencies_ms: Sequence[float]) -> LatencySummary | None:
    """The percentiles that so many samples allow; None without any."""
    return LatencySummary.from_durations([int(each * 1e6) for each in latencies_ms]) if latencies_ms else None


def tail_text(tail: LatencySummary | None) -> str:
    """The highest percentile that there is."""
    if tail is None:
        return "none"
    if tail.p99_ms is not None:
        return f"p99 {tail.p99_ms:.1f} ms (n {tail.n}; early stopping {tail.p99_bound_ms:.1f})"
    if tail.p90_ms is not None:
        return f"p90 {tail.p90_ms:.1f} ms (n {tail.n}: too few for a p99)"
    return f"p50 {tail.p50_ms:.1f} ms (n {tail.n}: too few for more)"


def p99_verdict(tail: LatencySummary | None, limit_ms: float) -> str:
    """Whether a p99 is within a limit; where there is none, a lower percentile that is over it decides too."""
    if tail is None:
        return NOT_MEASURED
    if tail.p99_ms is not None:
        return verdict_of(tail.p99_ms <= limit_ms)
    lower = tail.p50_ms if tail.p90_ms is None else tail.p90_ms
    return NOT_HELD if lower > limit_ms else NOT_MEASURED


def worst(verdicts: Sequence[str]) -> str:
    """One verdict of several."""
    return next((each for each in (NOT_HELD, NOT_MEASURED) if each in verdicts), HELD)
