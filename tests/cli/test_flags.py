from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.cli.flags import shape_tables
from edge_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("x=1x3x4", {"x": {"shape": [1, 3, 4]}}),
        ("x=1x3,8x3,16x3", {"x": {"min": [1, 3], "opt": [8, 3], "max": [16, 3]}}),
        ("a=b:0=1X2", {"a=b:0": {"shape": [1, 2]}}),
        ("x=5", {"x": {"shape": [5]}}),
    ],
)
def test_the_name_ends_at_the_last_equals_sign(option: str, expected: dict[str, Any]) -> None:
    assert shape_tables([option]) == expected


@pytest.mark.parametrize(
    "option",
    ["", "x", "=1x2", "x=", "x=1x", "x=1x-2", "x=1,2", "x=1,2,3,4", "x=1.5", "x=x", "x=٣", "x=1x2 ", "x=9999999999"],
)
def test_anything_else_is_a_usage_error(option: str) -> None:
    with pytest.raises(UsageError, match="expected NAME=SHAPE"):
        shape_tables([option])
