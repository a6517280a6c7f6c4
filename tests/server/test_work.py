from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.errors import BackendError
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import Request
from edge_runtime.server.run import Run
from edge_runtime.server.statistics import ModelStatistics
from edge_runtime.server.work import Work

BROKEN = BackendError("broken")


@pytest.mark.parametrize(
    ("deadlines_ns", "outcomes", "late"),
    [
        ([None], [b""], 0),
        ([50], [b""], 0),
        ([49], [b""], 1),
        ([49], [BROKEN], 0),
        ([49, 50, 10], [b"", b"", b""], 2),
        ([49, 49, None], [b"", BROKEN, b""], 1),
    ],
)
def test_an_answer_made_after_its_deadline_counts_as_late(
    tiny_engine: Any, deadlines_ns: list, outcomes: list, late: int
) -> None:
    with tiny_engine("identity") as engine:
        work = Work(engine, ModelStatistics(), ModelPolicy("identity", 1, 9))
        requests = [Request("identity", {}, dict, print, 0) for _ in deadlines_ns]
        for request, deadline_ns in zip(requests, deadlines_ns):
            request.deadline_ns = deadline_ns
        run = Run(engine, requests, len(requests), lambda: 0)
        run.start_ns = run.input_done_ns = run.infer_done_ns = 20
        run.outcomes, run.output_done_ns = outcomes, 50
        work.count(run)
    assert work.statistics.totals.late == late
    assert work.statistics.totals.success == outcomes.count(b"")
