from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.builder.tensorrt.ladder import MIB, Ceiling, Rung, ceiling_of, first_workspace, rungs

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("total", "available", "limit", "ceiling"),
    [
        (4 * GIB, 3 * GIB, None, Ceiling(3 * GIB - 4 * GIB // 10, 4 * GIB // 20)),
        (64 * GIB, 60 * GIB, 2 * GIB, Ceiling(2 * GIB, 64 * GIB // 20)),
        (2 * GIB, 200 * MIB, None, Ceiling(64 * MIB, 100 * MIB)),
        (None, None, None, Ceiling(None, None)),
        (None, 1 * GIB, None, Ceiling(768 * MIB, 128 * MIB)),
    ],
)
def test_a_build_leaves_a_reserve_for_everything_else(total: Any, available: Any, limit: Any, ceiling: Ceiling) -> None:
    assert ceiling_of(total, available, limit) == ceiling


@pytest.mark.parametrize(
    ("is_shared", "held", "wanted", "workspace"),
    [(True, GIB, None, GIB // 2), (True, GIB, 5, 5), (False, GIB, None, None), (True, None, None, None)],
)
def test_the_workspace_begins_with_half_of_it_where_memory_is_shared(
    is_shared: bool, held: Any, wanted: Any, workspace: Any
) -> None:
    assert first_workspace(is_shared, held, wanted) == workspace


def test_each_try_takes_less_and_searches_less() -> None:
    assert list(rungs(Rung(1024 * MIB, None), 2 * GIB)) == [
        Rung(1024 * MIB, None),
        Rung(256 * MIB, 2, is_reduced=True),
        Rung(64 * MIB, 1, is_reduced=True),
        Rung(16 * MIB, 0, is_reduced=True),
    ]


def test_a_level_that_was_set_is_never_raised() -> None:
    assert [rung.optimization_level for rung in rungs(Rung(1024 * MIB, 1), None)] == [1, 1, 1, 0]


def test_without_a_limit_the_second_try_has_one() -> None:
    assert [rung.workspace_nbytes for rung in rungs(Rung(None, None), GIB)] == [None, 256 * MIB, 64 * MIB, 16 * MIB]
    assert list(rungs(Rung(None, None), None)) == [Rung(None, None)]


def test_a_try_says_what_it_is() -> None:
    assert Rung(None, None).text == "the default workspace"
    assert Rung(64 * MIB, 1).text == "a workspace of 64 MiB, optimisation level 1"
