"""Latency: summaries that say no more than their sample carries, and candidates timed in one run.

The percentiles follow MLPerf Inference (LoadGen's `early_stopping.cc` and "Early Stopping" in the MLPerf
Inference Rules, confidence 99 %, tolerance 0). Of n samples, t may be over a latency bound if the odds of seeing
t or fewer, where one in 1 - p truly is, are below 1 %; the t-th highest sample then bounds the p-th percentile.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError, DataError

Array = npt.NDArray[Any]
Clock = Callable[[], int]

_CONFIDENCE = 0.99


def min_samples(percentile: float, overlatency: int = 1) -> int:
    """The fewest samples that pin a percentile (0.9 for p90) down when `overlatency` of them are over the bound.

    LoadGen's `h_min` is this minus `overlatency`: 459 for 0 at p99. With its 1: 64 for p90, 662 for p99.
    """
    low, high = overlatency, overlatency + 1
    while overlatency_budget(high, percentile) < overlatency:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if overlatency_budget(middle, percentile) < overlatency:
            low = middle
        else:
            high = middle
    return high


def overlatency_budget(n: int, percentile: float) -> int:
    """How many of n samples may lie over the bound of a percentile; -1 where n is too small even for none."""
    return _tail_count(n, 1 - percentile, 1 - _CONFIDENCE)


def _tail_count(n: int, chance: float, odds: float) -> int:
    """The largest t with P(X <= t) < `odds`, X binomial of n and `chance`; -1 if there is none."""
    k = np.arange(1, min(n, int(n * chance) + 1) + 1)
    steps = np.log((n - k + 1) / k) + math.log(chance / (1 - chance))
    log_terms = n * math.log1p(-chance) + np.concatenate(([0.0], np.cumsum(steps)))
    return int(np.searchsorted(np.cumsum(np.exp(log_terms)), odds)) - 1


_PERCENTILES = (("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))


@dataclass(frozen=True)
class LatencySummary:
    """Latency of n calls in milliseconds, and calls a second.

    A high percentile is None where n is too small for it. `p90_ms` is the plain percentile (interpolated);
    `p90_bound_ms` is MLPerf's early-stopping estimate: the true one is below it at 99 % confidence.
    """

    n: int
    mean_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float
    p90_bound_ms: float | None
    p99_bound_ms: float | None
    p999_bound_ms: float | None
    throughput_per_s: float

    @classmethod
    def from_durations(cls, durations_ns: Sequence[int] | Array, elapsed_ns: int | None = None) -> LatencySummary:
        """The summary of one duration a call; `elapsed_ns` is the whole run (default: calls one after another).

        Raises:
            DataError: there are no durations.
        """
        if not len(durations_ns):
            raise DataError("latency: expected at least one duration, got none; measure more")
        values = np.sort(np.asarray(durations_ns, dtype=np.int64))
        (p90, p90_bound), (p99, p99_bound), (p999, p999_bound) = (_percentile(values, p) for _, p in _PERCENTILES)
        whole_ns = int(values.sum()) if elapsed_ns is None else elapsed_ns
        return cls(
            n=values.size,
            mean_ms=float(values.mean()) / 1e6,
            min_ms=int(values[0]) / 1e6,
            p50_ms=float(np.median(values)) / 1e6,
            p90_ms=p90,
            p99_ms=p99,
            p999_ms=p999,
            max_ms=int(values[-1]) / 1e6,
            p90_bound_ms=p90_bound,
            p99_bound_ms=p99_bound,
            p999_bound_ms=p999_bound,
            throughput_per_s=values.size / max(whole_ns, 1) * 1e9,
        )

    def too_small(self) -> List[Tuple[str, int]]:
        """The percentiles that n is too small for, and the n that each needs."""
        return [(name, min_samples(level)) for name, level in _PERCENTILES if self.n < min_samples(level)]

    def rows(self) -> List[Tuple[str, str]]:
        """Label and text of every figure, for a table."""
        plain = (self.p90_ms, self.p99_ms, self.p999_ms)
        bounds = (self.p90_bound_ms, self.p99_bound_ms, self.p999_bound_ms)
        tails = [
            (name, _tail_text(level, value, bound)) for (name, level), value, bound in zip(_PERCENTILES, plain, bounds)
        ]
        return [
            ("n", f"{self.n:,}"),
            ("mean", f"{self.mean_ms:.3f} ms"),
            ("min", f"{self.min_ms:.3f} ms"),
            ("p50", f"{self.p50_ms:.3f} ms"),
            *tails,
            ("max", f"{self.max_ms:.3f} ms"),
            ("throughput", f"{self.throughput_per_s:,.1f} calls/s"),
        ]


def _percentile(ascending: Array, level: float) -> Tuple[float | None, float | None]:
    """A plain percentile and its early-stopping estimate, in milliseconds."""
    budget = overlatency_budget(ascending.size, level)
    if budget < 1:
        return None, None
    return float(np.percentile(ascending, level * 100)) / 1e6, int(ascending[-budget]) / 1e6


def _tail_text(level: float, value: float | None, bound: float | None) -> str:
    if value is None:
        return f"n too small ({min_samples(level):,} needed)"
    return f"{value:.3f} ms (at 99 % confidence below {bound:.3f} ms)"


@dataclass(frozen=True)
class TimingOptions:
    """How long candidates are compared: rounds until `budget_s` is spent, between the two limits.

    Warm-up ends after `warm_up_rounds` or a quarter of the budget.
    """

    budget_s: float = 10.0
    min_rounds: int = 10
    max_rounds: int = 500
    warm_up_rounds: int = 10
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or not 1 <= self.min_rounds <= self.max_rounds:
            raise ConfigError(f"{self}: expected 0 < confidence < 1 and 1 <= min_rounds <= max_rounds")
        if _tail_count(self.min_rounds, 0.5, (1 - self.confidence) / 2) < 0:
            raise ConfigError(f"{self}: min_rounds is too small for an interval of that confidence; raise it")


@dataclass(frozen=True)
class LatencyRatio:
    """A candidate's latency over another's: the median of the rounds, and its confidence interval."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What `interleaved` measured: a summary for each candidate, in order, and ratios between any two of them.

    `round_ns` is what each candidate took in each round: `[rounds, candidates]`.
    """

    summaries: Tuple[LatencySummary, ...]
    round_ns: Array = field(repr=False, compare=False)
    confidence: float

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        return len(self.round_ns)

    @property
    def ratios(self) -> Tuple[LatencyRatio, ...]:
        """The ratio of each candidate to the first."""
        return tuple(self.ratio(index) for index in range(len(self.summaries)))

    def ratio(self, of: int, against: int = 0) -> LatencyRatio:
        """The latency of one candidate over another's, both by their place in the call.

        The interval is the sign test's for the median of the per-round ratios, free of any assumption on their
        distribution; a whole interval below 1 means faster.
        """
        ascending = np.sort(self.round_ns[:, of] / self.round_ns[:, against])
        outside = _tail_count(ascending.size, 0.5, (1 - self.confidence) / 2)
        return LatencyRatio(float(np.median(ascending)), float(ascending[outside]), float(ascending[-1 - outside]))


def interleaved(
    first: Callable[[], object],
    *others: Callable[[], object],
    options: TimingOptions | None = None,
    clock: Clock = time.perf_counter_ns,
) -> Comparison:
    """Times callables in one run, in the order A B B A every round, so that drift hits all alike.

    Of three or more, the next one begins each round, for the call in the middle finds caches as it left them itself.
    `clock` counts nanoseconds.
    """
    limits = options or TimingOptions()
    candidates = (first, *others)
    start_ns, budget_ns = clock(), round(limits.budget_s * 1e9)
    warm_up = (min(1, limits.warm_up_rounds), limits.warm_up_rounds)
    _run_rounds(candidates, warm_up, start_ns + budget_ns // 4, clock)
    rows = _run_rounds(candidates, (limits.min_rounds, limits.max_rounds), start_ns + budget_ns, clock)
    times = np.array(rows, dtype=np.int64)
    return Comparison(
        tuple(LatencySummary.from_durations(times[:, :, index].ravel()) for index in range(len(candidates))),
        np.maximum(times.sum(axis=1), 1),
        limits.confidence,
    )


def _run_rounds(
    candidates: Sequence[Callable[[], object]], rounds: Tuple[int, int], end_ns: int, clock: Clock
) -> List[List[List[int]]]:
    """Both durations of every candidate for each round: at least `rounds[0]`, at most `rounds[1]`, else to `end_ns`."""
    fewest, most = rounds
    count = len(candidates)
    rows: List[List[List[int]]] = []
    while len(rows) < fewest or (len(rows) < most and clock() < end_ns):
        turn = len(rows) % count if count > 2 else 0
        order = [*range(turn, count), *range(turn)]
        row = [[0] * count, [0] * count]
        for durations, indices in zip(row, (order, reversed(order))):
            for index in indices:
                durations[index] = _timed(candidates[index], clock)
        rows.append(row)
    return rows


def _timed(call: Callable[[], object], clock: Clock) -> int:
    start_ns = clock()
    call()
    return clock() - start_ns
