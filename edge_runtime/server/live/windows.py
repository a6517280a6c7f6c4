"""What one model did in the last seconds: differences between its counters and what they were."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.evaluation.latency import min_samples
from edge_runtime.server.latencies import BUCKETS, Counts, percentiles_ns
from edge_runtime.server.statistics import FAILURE_REASONS, Counted

LEVELS = (50.0, 90.0, 99.0)
NEEDED = {50.0: 1, **{level: min_samples(level / 100) for level in LEVELS[1:]}}
_SLACK_NS = 500_000_000  # a snapshot a second comes a little late
_FIRST_LATENCY = 2 + len(FAILURE_REASONS)


class Sums:
    """Counters as one vector, so that all are added and subtracted at once."""

    def __init__(self, values: Counts) -> None:
        self.values = values

    @classmethod
    def of(cls, counted: Counted) -> Sums:
        """The counters of a model."""
        totals = counted.totals
        single = [totals.success, totals.rows, *(totals.failures[reason] for reason in FAILURE_REASONS)]
        return cls(np.concatenate((np.array(single, np.int64), counted.latencies, counted.waits)))

    def record(self) -> Dict[str, Any]:
        """The counters as they are shown."""
        success, rows, *failures = self.values[:_FIRST_LATENCY].tolist()
        latencies, waits = np.split(self.values[_FIRST_LATENCY:], 2)
        return {
            "succeeded": success,
            "inferences": rows,
            "failed": dict(zip(FAILURE_REASONS, failures)),
            "latency": percentiles(latencies),
            "wait": percentiles(waits),
        }


class _Change(NamedTuple):
    """What changed between two moments: which of the sums, and by how much."""

    begun_ns: int
    ended_ns: int
    where: npt.NDArray[Any]
    amounts: Counts


class Window:
    """The sums of the changes of the last `length_s`; one that began before is left out."""

    def __init__(self, length_s: int) -> None:
        self.length_s = length_s
        self._sums: Counts = np.zeros(_FIRST_LATENCY + 2 * BUCKETS, np.int64)
        self._changes: Deque[_Change] = deque()

    def add(self, change: _Change) -> None:
        """Takes in the newest change, and lets go of the oldest."""
        self._changes.append(change)
        self._sums[change.where] += change.amounts
        begins_ns = change.ended_ns - self.length_s * 1_000_000_000 - _SLACK_NS
        while self._changes and self._changes[0].begun_ns < begins_ns:
            gone = self._changes.popleft()
            self._sums[gone.where] -= gone.amounts

    def record(self) -> Dict[str, Any]:
        """What was done in it, and how much of it was seen; rates are None where nothing was."""
        changes, done = self._changes, Sums(self._sums).record()
        elapsed_s = (changes[-1].ended_ns - changes[0].begun_ns) / 1e9 if changes else 0.0
        return {
            "window_s": self.length_s,
            "seen_s": round(elapsed_s, 1),
            "requests_per_s": round(done["succeeded"] / elapsed_s, 1) if elapsed_s else None,
            "inferences_per_s": round(done["inferences"] / elapsed_s, 1) if elapsed_s else None,
            **done,
        }


class History:
    """What one model's counters were; memory for those that changed."""

    def __init__(self) -> None:
        self._windows = (Window(10), Window(60))
        self._last: Sums | None = None
        self._last_ns = 0

    def add(self, now_ns: int, sums: Sums) -> None:
        """Takes the counters in as they are now; half a second after the last ones at the earliest."""
        if self._last is not None:
            if now_ns - self._last_ns < _SLACK_NS:
                return
            by = sums.values - self._last.values
            where = np.flatnonzero(by)
            for window in self._windows:
                window.add(_Change(self._last_ns, now_ns, where, by[where]))
        self._last, self._last_ns = sums, now_ns

    def records(self) -> list[Dict[str, Any]]:
        """What was done in each window, the shortest first."""
        return [window.record() for window in self._windows]


def percentiles(counts: Counts) -> Dict[str, Any]:
    """How many durations there were, and the percentiles that so many can show (LoadGen's rule of early stopping)."""
    n = int(counts.sum())
    shown = [level for level, needed in NEEDED.items() if n >= needed]
    found = dict(zip(shown, percentiles_ns(counts, shown)))
    return {"n": n, **{f"p{level:g}_ms": _ms(found.get(level)) for level in LEVELS}}


def _ms(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else round(duration_ns / 1e6, 3)
