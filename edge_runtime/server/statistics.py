"""What a model has done since the server began: exact counts, and durations in nanoseconds."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

FAILURE_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
_NONE = {"count": 0, "ns": 0}  # there is no response cache


@dataclass(frozen=True)
class RunTimes:
    """When one request arrived, began, had its inputs copied, had run, and had its outputs encoded; all ns."""

    arrival_ns: int
    start_ns: int
    input_done_ns: int
    infer_done_ns: int
    output_done_ns: int

    @property
    def parts(self) -> Tuple[int, int, int, int]:
        """Durations of queue, compute_input, compute_infer and compute_output."""
        return (
            self.start_ns - self.arrival_ns,
            self.input_done_ns - self.start_ns,
            self.infer_done_ns - self.input_done_ns,
            self.output_done_ns - self.infer_done_ns,
        )

    @property
    def whole_ns(self) -> int:
        """From arrival to the encoded answer."""
        return self.output_done_ns - self.arrival_ns


PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass
class Totals:
    """A consistent copy of the counters."""

    success: int = 0
    success_ns: int = 0
    failures: Dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAILURE_REASONS, 0))
    failure_ns: int = 0
    rows: int = 0
    parts_ns: Dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    last_inference_ms: int = 0
    batches: Dict[int, Tuple[int, int, int, int]] = field(default_factory=dict)


class ModelStatistics:
    """Counters of one model; any thread may add to them."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._lock = threading.Lock()

    def add_success(self, times: RunTimes, rows: int, wall_ms: int) -> None:
        """Counts an answered request of `rows` rows; `wall_ms` is the time of day in ms."""
        with self._lock:
            totals = self._totals
            totals.success += 1
            totals.success_ns += times.whole_ns
            totals.rows += rows
            totals.last_inference_ms = wall_ms
            for name, duration_ns in zip(PARTS, times.parts):
                totals.parts_ns[name] += duration_ns
            count, *sums = totals.batches.get(rows, (0, 0, 0, 0))
            _, *added = times.parts
            first, second, third = (a + b for a, b in zip(sums, added))
            totals.batches[rows] = (count + 1, first, second, third)

    def add_failure(self, reason: str, duration_ns: int) -> None:
        """Counts a request that got no answer, by one of `FAILURE_REASONS`."""
        with self._lock:
            self._totals.failures[reason] += 1
            self._totals.failure_ns += duration_ns

    def totals(self) -> Totals:
        """A copy of all counters at one moment."""
        with self._lock:
            now = self._totals
            return Totals(
                now.success,
                now.success_ns,
                dict(now.failures),
                now.failure_ns,
                now.rows,
                dict(now.parts_ns),
                now.last_inference_ms,
                dict(now.batches),
            )


def statistics_record(name: str, version: str, totals: Totals) -> Dict[str, Any]:
    """One model's entry in the protocol's statistics."""
    success = {"count": totals.success, "ns": totals.success_ns}
    failures = {"count": sum(totals.failures.values()), "ns": totals.failure_ns}
    parts = {part: {"count": totals.success, "ns": ns} for part, ns in totals.parts_ns.items()}
    batches = [
        {"batch_size": size, **{part: {"count": count, "ns": ns} for part, ns in zip(PARTS[1:], sums)}}
        for size, (count, *sums) in sorted(totals.batches.items())
    ]
    return {
        "name": name,
        "version": version,
        "last_inference": totals.last_inference_ms,
        "inference_count": totals.rows,
        "execution_count": totals.success,
        "inference_stats": {"success": success, "fail": failures, **parts, "cache_hit": _NONE, "cache_miss": _NONE},
        "batch_stats": batches,
    }
