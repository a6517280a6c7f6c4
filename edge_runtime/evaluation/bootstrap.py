"""The bootstrap: where a figure would lie on other held-out rows like these."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.evaluation.latency import Clock

_Array = npt.NDArray[np.float64]
Interval = Tuple[Optional[float], Optional[float]]

_MOST_ENTRIES = 1 << 12
_DRAWS_AT_ONCE = 1 << 19
_FEWEST_CALLS = 50


@dataclass(frozen=True)
class Resampling:
    """How often rows are drawn again: `count` times, or for a user's function `calls` times within `budget_s`.

    `clock` counts nanoseconds.
    """

    count: int = 1_000
    calls: int = 200
    budget_s: float = 5.0
    seed: int = 0
    clock: Clock = time.perf_counter_ns

    def affordable(self) -> Iterator[int]:
        """Numbers of calls, while the budget lasts; it ends early where even the fewest of use won't fit."""
        start_ns, budget_ns = self.clock(), self.budget_s * 1e9
        for done in range(self.calls):
            spent_ns = self.clock() - start_ns
            if spent_ns > budget_ns or (done and spent_ns / done * _FEWEST_CALLS > budget_ns):
                return
            yield done


def resampled_means(tables: Sequence[_Array], resampling: Resampling) -> List[_Array]:
    """The means of each table's columns over rows drawn with replacement: `[count, columns]` for each table.

    Tables of equally many rows get the same draws, so they stay paired. Past 4,096 rows, runs of neighbours are drawn
    as one, which leaves the variance as it is. Takes about 20 MiB.

    Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6 and 8.
    """
    means: Dict[int, _Array] = {}
    for rows in {len(table) for table in tables}:
        alike = [index for index, table in enumerate(tables) if len(table) == rows]
        joined = _drawn_means(np.hstack([tables[index] for index in alike]), resampling)
        edges = np.cumsum([tables[index].shape[1] for index in alike])[:-1]
        means.update(zip(alike, np.split(joined, edges, axis=1)))
    return [means[index] for index in range(len(tables))]


def _drawn_means(table: _Array, resampling: Resampling) -> _Array:
    sums = np.column_stack((table, np.ones(len(table))))
    sums = np.add.reduceat(sums, np.arange(0, len(sums), -(-len(sums) // _MOST_ENTRIES)))
    entries = len(sums)
    rng = np.random.default_rng(resampling.seed)
    step = max(1, _DRAWS_AT_ONCE // entries)
    drawn = []
    for start in range(0, resampling.count, step):
        count = min(step, resampling.count - start)
        picks = rng.integers(entries, size=(count, entries)) + entries * np.arange(count)[:, None]
        weights = np.bincount(picks.ravel(), minlength=count * entries).reshape(count, entries)
        with np.errstate(over="ignore", invalid="ignore"):
            drawn.append(weights.astype(np.float64) @ sums)
    totals = np.concatenate(drawn)
    means: _Array = totals[:, :-1] / totals[:, -1:]
    return means


def percentile_interval(values: Sequence[float] | _Array) -> Interval:
    """The middle 95 % of resampled values; not known if they are too few, or not all finite."""
    if len(values) < _FEWEST_CALLS or not np.isfinite(values).all():
        return None, None
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
