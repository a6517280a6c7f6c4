from __future__ import annotations

from edge_runtime.server.recent_demand import RecentDemand
from edge_runtime.server.statistics import Totals

S = 1_000_000_000


def totals(answered: int, waited_ms: float = 0, refused: int = 0, late: int = 0) -> Totals:
    found = Totals(success=answered, late=late)
    found.parts_ns[0] = round(waited_ms * 1e6)
    found.failures["REJECTED"] = refused
    return found


def test_waits_and_misses_are_of_the_window_alone() -> None:
    demand = RecentDemand(2)
    assert demand.take(totals(100, 9000, 50), 0, 0) == (None, None)
    assert demand.take(totals(120, 9080, 60, late=5), 0, S) == (4.0, 0.5)
    assert demand.take(totals(160, 9160, 60, late=5), 0, 2 * S) == (160 / 60, 15 / 70)
    assert demand.take(totals(160, 9160, 60, late=5), 0, 3 * S) == (2.0, 0.0)


def test_a_few_requests_are_no_share() -> None:
    demand = RecentDemand(5)
    demand.take(totals(0), 0, 0)
    assert demand.take(totals(0, refused=1), 0, S) == (0.0, 0.05)


def test_while_requests_wait_and_none_is_answered_the_wait_is_unknown() -> None:
    demand = RecentDemand(5)
    demand.take(totals(0), 3, 0)
    assert demand.take(totals(0), 3, S) == (None, 0.0)
    demand.clear()
    assert demand.take(totals(7), 0, 2 * S) == (None, None)
