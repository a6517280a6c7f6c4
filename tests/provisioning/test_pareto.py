from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.provisioning.pareto import Bound, choose, frontier, frontier_of

COLUMNS = [("ms", False), ("mj", False), ("score", True)]


def row(ms: Any, mj: Any = None, score: Any = None) -> dict[str, Any]:
    return {"ms": ms, "mj": mj, "score": score}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([row(1, 1, 1)], [True]),
        ([row(1, 2, 1), row(2, 1, 1)], [True, True]),
        ([row(1, 1, 1), row(2, 2, 0.9)], [True, False]),
        ([row(1, 1, 1), row(1, 1, 1)], [True, True]),
        ([row(1, 1, 1), row(1, 1, 0.9)], [True, False]),
        ([row(1), row(2)], [True, False]),
        ([row(2, 5), row(1)], [True, False]),
        ([row(1, None, 0.9), row(2, None, 1.0), row(3, None, 0.95)], [True, True, False]),
        ([row(None), row(None)], [False, False]),
        ([row(-1.0), row(-2.0)], [False, True]),
    ],
    ids=[
        "none",
        "one",
        "a trade",
        "worse in all",
        "equal ones are on it together",
        "as good but in one",
        "a column that nobody has does not count",
        "who lacks what others have cannot be compared",
        "middle",
        "nothing known",
        "below zero",
    ],
)
def test_the_frontier_is_what_nobody_beats(rows: list[Any], expected: list[bool]) -> None:
    assert frontier(rows, COLUMNS) == expected


def test_the_best_of_those_that_keep_the_bounds_is_taken_and_the_others_know_why() -> None:
    rows = [row(1, 9, 0.9), row(2, 5, 0.99), row(3, 4, 0.99), row(4, None, 0.99)]
    bounds = [Bound("energy", "mj", 6, False), Bound("accuracy", "score", 0.95, True)]
    found = choose(rows, bounds, COLUMNS)
    assert found.index == 1
    assert found.why_not == {
        0: "energy 9, at most 6 is wanted; accuracy 0.9, at least 0.95 is wanted",
        2: "ms 3, more than 2",
        3: "energy isn't known, at most 6 is wanted",
    }


def test_none_is_taken_where_none_keeps_the_bounds() -> None:
    found = choose([row(1), row(None)], [Bound("latency", "ms", 0.5, False)], COLUMNS)
    assert (found.index, len(found.why_not)) == (None, 2)


def test_of_equals_the_next_figures_decide_and_an_unknown_one_is_the_worst() -> None:
    assert choose([row(1, None), row(1, 3), row(1, 2)], [], COLUMNS).index == 2
    assert choose([row(1, 2), row(1, 2)], [], COLUMNS).why_not == {
        1: "as good by ms, and worse by another figure or later in the list"
    }


def test_what_is_chosen_by_must_be_known() -> None:
    found = choose([row(None, 1), row(2, 5)], [], COLUMNS)
    assert (found.index, found.why_not[0]) == (1, "ms isn't known")


def test_a_row_that_breaks_a_bound_beats_none_that_keeps_them() -> None:
    rows = [{**row(1, 1, 1), "p99": 50}, {**row(2, 2, 1), "p99": 5}, {**row(3, 3, 1), "p99": 6}, {**row(4), "p99": 99}]
    found = choose(rows, [Bound("p99", "p99", 10, False)], COLUMNS)
    assert frontier_of(rows, COLUMNS, found.able) == [True, True, False, False]
    assert found.index == 1
