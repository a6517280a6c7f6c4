from __future__ import annotations

from pathlib import Path

import pytest
from fakes.boards import clocks, power, tree

from edge_runtime.device.power_mode import (
    PowerMode,
    current_power_mode,
    default_power_mode,
    has_pinned_clocks,
    power_modes,
)

ORIN_NANO = {0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}


@pytest.mark.parametrize("status", ["pmode:0002", "pmode:0002\n", "pmode:2 fmode:quiet\n", "fmode:cool\npmode:0002\n"])
def test_the_mode_that_was_set_is_found_by_name(tmp_path: Path, status: str) -> None:
    assert current_power_mode(tree(tmp_path, power(status, ORIN_NANO, 1))) == PowerMode(2, "MAXN_SUPER")


@pytest.mark.parametrize("status", [None, "", "pmode:", "pmode:0009", "pmode:-2", "pmode:" + "9" * 5000, "\0\xff"])
def test_a_mode_without_a_number_or_a_name_is_unknown_and_not_the_default(tmp_path: Path, status: str | None) -> None:
    root = tree(tmp_path, power(status, ORIN_NANO, 1))
    assert current_power_mode(root) is None
    assert default_power_mode(root) == PowerMode(1, "25W")


def test_all_modes_are_listed_and_the_comment_is_none_of_them(tmp_path: Path) -> None:
    root = tree(tmp_path, power(None, ORIN_NANO, 1))
    assert [mode.name for mode in power_modes(root)] == ["15W", "25W", "MAXN_SUPER", "7W"]


def test_a_board_without_a_configuration_has_no_modes(tmp_path: Path) -> None:
    root = tree(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002"})
    assert (power_modes(root), current_power_mode(root), default_power_mode(root)) == ([], None, None)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(1728000, 1728000), (1728000, 1728000)], True),
        ([(1728000, 1728000), (729600, 1728000)], False),
        ([("x", 1728000), (1728000, 1728000)], True),
        ([("", "")], None),
        ([], None),
    ],
)
def test_clocks_are_pinned_where_no_core_has_room(tmp_path: Path, pairs: list, expected: bool | None) -> None:
    assert has_pinned_clocks(tree(tmp_path, clocks(*pairs))) is expected
