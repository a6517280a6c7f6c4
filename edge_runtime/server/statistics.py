"""What a model has done since the server began: exact counts, and durations in nanoseconds."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence

from edge_runtime.server.latencies import RECENT, Counts, Latencies

FAILURE_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
PARTS = ("queue", "compute_input", "compute_infer", "compute_output")
_NONE = {"count": 0, "ns": 0}  # there is no response cache


class RunTimes:
    """When a run began, had its inputs copied, had run, and had its outputs encoded; all ns of one clock."""

    __slots__ = ("infer_done_ns", "input_done_ns", "output_done_ns", "start_ns")

    def __init__(
        self, start_ns: int = 0, input_done_ns: int = 0, infer_done_ns: int = 0, output_done_ns: int = 0
    ) -> None:
        self.start_ns = start_ns
        self.input_done_ns = input_done_ns
        self.infer_done_ns = infer_done_ns
        self.output_done_ns = output_done_ns


@dataclass
class Totals:
    """The counters. `batches` has, by rows of a run: how many runs, and their times to copy, run and encode.

    `late` of the answered ones had an answer that was made after their deadline.
    """

    success: int = 0
    success_ns: int = 0
    failures: Dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAILURE_REASONS, 0))
    failure_ns: int = 0
    rows: int = 0
    runs: int = 0
    parts_ns: List[int] = field(default_factory=lambda: [0] * len(PARTS))
    last_inference_ms: int = 0
    late: int = 0
    batches: Dict[int, List[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Counted:
    """The counters, and how many answered requests took how long, by bucket.

    Attributes:
        latencies: from a request's arrival to its answer's being made.
        waits: from its arrival to the beginning of its run.
    """

    totals: Totals
    latencies: Counts
    waits: Counts


class ModelStatistics:
    """Counters of one model; any thread may add to them. `last_run_ns` is when its last run ended."""

    def __init__(self) -> None:
        self.last_run_ns = 0
        self._totals = Totals()
        self._latencies = Latencies()
        self._waits = Latencies()
        self._lock = threading.Lock()

    @property
    def totals(self) -> Totals:
        """A copy of the counters at one moment."""
        with self._lock:
            return copy.deepcopy(self._totals)

    @property
    def counted(self) -> Counted:
        """A copy of all there is, at one moment."""
        with self._lock:
            return Counted(copy.deepcopy(self._totals), self._latencies.counts(), self._waits.counts())

    def add_run(self, times: RunTimes, arrivals_ns: Sequence[int], rows: int, wall_ms: int) -> None:
        """Counts the answered requests of one run of `rows` rows; `wall_ms` is the time of day in ms."""
        input_ns = times.input_done_ns - times.start_ns
        infer_ns = times.infer_done_ns - times.input_done_ns
        output_ns = times.output_done_ns - times.infer_done_ns
        count = len(arrivals_ns)
        arrived_ns = sum(arrivals_ns)
        self.last_run_ns = times.output_done_ns
        with self._lock:
            totals = self._totals
            parts_ns = totals.parts_ns
            totals.success += count
            totals.success_ns += count * times.output_done_ns - arrived_ns
            parts_ns[0] += count * times.start_ns - arrived_ns
            parts_ns[1] += count * input_ns
            parts_ns[2] += count * infer_ns
            parts_ns[3] += count * output_ns
            totals.rows += rows
            totals.runs += 1
            totals.last_inference_ms = wall_ms
            batch = totals.batches.get(rows)
            if batch is None:
                batch = totals.batches[rows] = [0, 0, 0, 0]
            batch[0] += 1
            batch[1] += input_ns
            batch[2] += infer_ns
            batch[3] += output_ns
            latencies_ns, waits_ns = self._latencies.recent_ns, self._waits.recent_ns
            for arrival_ns in arrivals_ns:
                latencies_ns.append(times.output_done_ns - arrival_ns)
                waits_ns.append(times.start_ns - arrival_ns)
            if len(latencies_ns) >= RECENT:
                self._latencies.sort_in()
                self._waits.sort_in()

    def add_failure(self, reason: str, duration_ns: int) -> None:
        """Counts a request that got no answer, by one of `FAILURE_REASONS`."""
        with self._lock:
            self._totals.failures[reason] += 1
            self._totals.failure_ns += duration_ns

    def add_late(self, count: int = 1) -> None:
        """Counts answers that were made after their deadline; `add_run` counts them as answered."""
        with self._lock:
            self._totals.late += count


def statistics_record(name: str, version: str, totals: Totals) -> Dict[str, Any]:
    """One model's entry in the protocol's statistics."""
    success = {"count": totals.success, "ns": totals.success_ns}
    failures = {"count": sum(totals.failures.values()), "ns": totals.failure_ns}
    parts = {part: {"count": totals.success, "ns": ns} for part, ns in zip(PARTS, totals.parts_ns)}
    batches = [
        {"batch_size": size, **{part: {"count": count, "ns": ns} for part, ns in zip(PARTS[1:], sums)}}
        for size, (count, *sums) in sorted(totals.batches.items())
    ]
    return {
        "name": name,
        "version": version,
        "last_inference": totals.last_inference_ms,
        "inference_count": totals.rows,
        "execution_count": totals.runs,
        "inference_stats": {"success": success, "fail": failures, **parts, "cache_hit": _NONE, "cache_miss": _NONE},
        "batch_stats": batches,
    }
