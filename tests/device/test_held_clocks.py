"""Over made-up trees in the form of a board's; the frequencies are those that Jetsons have."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.board_trees import orin_nano_jp6, pc_with_rapl
from fakes.boards import tree
from fakes.held_clocks import held_board

from edge_runtime.device.held_clocks import held_clocks
from edge_runtime.errors import ConfigError


def test_clocks_that_jetson_clocks_holds_are_found_with_how_low_they_could_be(tmp_path: Path) -> None:
    found = [(clock.name, clock.held, clock.lowest) for clock in held_clocks(held_board(tmp_path))]
    assert found == [
        ("CPU policy0", 1510400, 115200),
        ("CPU policy4", 1510400, 115200),
        ("GPU 17000000.gpu", 624750000, 306000000),
    ]


def test_where_a_kernel_has_no_policies_each_core_is_a_clock(tmp_path: Path) -> None:
    cpu = {"scaling_min_freq": "1479000\n", "scaling_max_freq": "1479000\n", "cpuinfo_min_freq": "102000\n"}
    root = tree(tmp_path, {f"sys/devices/system/cpu/cpu0/cpufreq/{name}": text for name, text in cpu.items()})
    assert [(clock.name, clock.lowest) for clock in held_clocks(root)] == [("CPU cpu0", 102000)]


@pytest.mark.parametrize("board", [orin_nano_jp6, pc_with_rapl], ids=["free clocks", "a PC"])
def test_clocks_that_are_free_or_of_which_nothing_is_known_are_left_alone(tmp_path: Path, board: object) -> None:
    assert held_clocks(board(tmp_path)) == []  # type: ignore[operator]


def test_a_clock_is_released_and_held_again_where_it_was(tmp_path: Path) -> None:
    clock = held_clocks(held_board(tmp_path))[0]
    clock.release()
    assert clock.path.read_text() == "115200\n"
    clock.hold()
    assert held_clocks(tmp_path)[0] == clock


def test_a_file_that_cannot_be_written_is_an_error_with_the_command(tmp_path: Path) -> None:
    clock = held_clocks(held_board(tmp_path))[0]
    clock.path.unlink()
    clock.path.mkdir()
    with pytest.raises(
        ConfigError, match=rf"CPU policy0: .*can't be written.*run: echo 115200 \| sudo tee {clock.path}"
    ):
        clock.release()


def test_a_kernel_that_keeps_another_value_is_found_out(tmp_path: Path) -> None:
    clock = held_clocks(held_board(tmp_path))[0]
    clock.path.unlink()
    clock.path.symlink_to("/dev/null")  # takes anything, and has nothing afterwards
    with pytest.raises(ConfigError, match="expected 115200, got None"):
        clock.release()
