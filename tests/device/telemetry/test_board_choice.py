"""The text of `--board`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.device.telemetry.board import check_board, open_board
from edge_runtime.device.telemetry.board_choice import BoardChoice, board_choice
from edge_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("auto", BoardChoice("auto")),
        ("none", BoardChoice("none")),
        ("replay:a.log", BoardChoice("replay", Path("a.log"))),
        ("replay:/a/replay@3:b.log", BoardChoice("replay", Path("/a/replay@3:b.log"))),
        ("replay@10:a.log", BoardChoice("replay", Path("a.log"), 10.0)),
        ("replay@0.5:a.log", BoardChoice("replay", Path("a.log"), 0.5)),
    ],
)
def test_a_choice_is_a_kind_or_a_replay(text: str, choice: BoardChoice) -> None:
    assert board_choice(text) == choice


@pytest.mark.parametrize(
    "text", ["", "Auto", "replay", "replay:", "replay@:a", "replay@0:a", "replay@x:a", "replay@1001:a", "replay@-1:a"]
)
def test_anything_else_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected one of auto, sysfs, .*, none, replay:FILE, or replay@SPEED:FILE"):
        board_choice(text)


def test_nothing_to_replay_is_found_out_before_anything_starts(tmp_path: Path) -> None:
    for act in (check_board, lambda text: open_board(text, 1.0)):
        with pytest.raises(ConfigError, match=r"--board: .*none.log.*can't be read \(No such file"):
            act(f"replay:{tmp_path / 'none.log'}")
    check_board("auto")
    check_board("tegrastats")


def test_a_tree_is_sampled_as_often_as_asked_and_has_the_boards_files(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("tj-thermal")
    (zone / "temp").write_text("40000")
    opened = open_board(f"replay:{tmp_path}", 0.5)
    assert (opened.interval_s, opened.root) == (0.5, tmp_path)
    opened.source.close()
