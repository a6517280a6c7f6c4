"""A model as its dispatcher sees it: what runs it, how long that takes, and what becomes of its requests."""

from __future__ import annotations

import time
from typing import Dict, Sequence

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import EdgeRuntimeError, RequestError, ServerUnavailableError
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Request
from edge_runtime.server.run import Run
from edge_runtime.server.statistics import ModelStatistics

INLINE_NS = 150_000
_NEVER_INLINE_NS = 200_000
_UNKNOWN_NS = 400_000  # from which some fifty short runs are needed to be called short


class Work:
    """A model, used on the loop's thread but for `count`.

    Attributes:
        usual_ns: the median time of runs, by rows.
        inline_rows: rows of the largest run that the loop's thread may make; 0: none.
        inline_runs: how many it has made.
        cost_ns: the worst time of runs, by rows, as far as it was asked for since it changed.
    """

    def __init__(self, engine: Engine, statistics: ModelStatistics, policy: ModelPolicy) -> None:
        self.engine = engine
        self.statistics = statistics
        self.policy = policy
        self.name = policy.name
        self.usual_ns: Dict[int, float] = {}
        self.inline_rows = 0
        self.inline_runs = 0
        self.cost_ns: Dict[int, int] = {}

    def place(self) -> None:
        """Decides how many rows run on the loop's thread: those that take 150 µs or less, until they take over 200.

        None of an engine in another process: that one may hang, which the loop's thread never may.
        """
        if self.policy.segments > 1 or self.engine.keeper is not None:
            return
        for rows in sorted(self.usual_ns):
            limit_ns = _NEVER_INLINE_NS if rows <= self.inline_rows else INLINE_NS
            if self.usual_ns[rows] <= limit_ns:
                self.inline_rows = max(self.inline_rows, rows)
            else:
                self.inline_rows = min(self.inline_rows, rows - 1)

    def took(self, run: Run) -> bool:
        """Moves the median of runs of that size a step towards a run's time; True if they may have to move."""
        if run.is_failed:
            return False
        rows, duration_ns = run.rows, run.output_done_ns - run.start_ns
        usual_ns = self.usual_ns.get(rows, _UNKNOWN_NS)
        self.usual_ns[rows] = usual_ns = usual_ns * (1.02 if duration_ns > usual_ns else 0.98)
        return (usual_ns > _NEVER_INLINE_NS) if rows <= self.inline_rows else (usual_ns <= INLINE_NS)

    def count(self, run: Run) -> None:
        """Counts the outcomes of a run, on any thread; all but `RequestError`s, which the transport counts."""
        if not run.requests[0].is_counted:  # which shares its run with nobody
            return
        for part in run.parts:
            self.count(part)
        if run.parts:
            return
        requests = run.requests
        if len(requests) == 1 and not isinstance(run.outcomes[0], EdgeRuntimeError):
            self.statistics.add_run(run, (requests[0].arrival_ns,), run.rows, _wall_ms())
            deadline_ns = requests[0].deadline_ns
            if deadline_ns is not None and run.output_done_ns > deadline_ns:
                self.statistics.add_late()
            return
        is_answered = [not isinstance(outcome, EdgeRuntimeError) for outcome in run.outcomes]
        if all(is_answered):
            self.statistics.add_run(run, [each.arrival_ns for each in requests], run.rows, _wall_ms())
            self._count_late(run, requests)
        else:
            self._count_failures(run, is_answered)

    def _count_failures(self, run: Run, is_answered: Sequence[bool]) -> None:
        answered = [request for request, is_good in zip(run.requests, is_answered) if is_good]
        if answered:
            rows = sum(request.rows for request in answered)
            self.statistics.add_run(run, [each.arrival_ns for each in answered], rows, _wall_ms())
            self._count_late(run, answered)
        for request, outcome in zip(run.requests, run.outcomes):
            if isinstance(outcome, EdgeRuntimeError) and not isinstance(outcome, RequestError):
                self.statistics.add_failure("BACKEND", run.output_done_ns - request.arrival_ns)

    def _count_late(self, run: Run, answered: Sequence[Request]) -> None:
        late = sum(each.deadline_ns is not None and run.output_done_ns > each.deadline_ns for each in answered)
        if late:
            self.statistics.add_late(late)

    def give_up(self, request: Request, error: ServerUnavailableError, now_ns: int) -> None:
        """Counts a request that won't run, and emits why."""
        if request.is_counted:
            self.statistics.add_failure("REJECTED", now_ns - request.arrival_ns)
        request.emit(error)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
