from __future__ import annotations

from pathlib import Path

import pytest
from fakes.power_modes import board_with_modes

from edge_runtime.device.power_mode_changes import is_within, most_stretch, reboot_reason, with_ceiling
from edge_runtime.device.power_mode_settings import PowerModeSettings, power_mode_settings


@pytest.fixture
def modes(tmp_path: Path) -> dict[str, PowerModeSettings]:
    root = board_with_modes(tmp_path)
    return {each.mode.name: with_ceiling(each, root) for each in power_mode_settings(root)}


def test_what_a_mode_leaves_open_is_what_the_hardware_has(modes: dict[str, PowerModeSettings]) -> None:
    maxn = modes["MAXN"]
    assert maxn.gpu is not None
    assert (maxn.gpu.max_mhz, maxn.cpu["CPU_A78_0"].max_mhz) == (1020, 1728)


def test_modes_are_within_others_by_every_clock_and_the_cores(modes: dict[str, PowerModeSettings]) -> None:
    order = ["7W", "15W", "25W", "MAXN"]
    for low, high in zip(order, order[1:]):
        assert is_within(modes[low], modes[high])
        assert not is_within(modes[high], modes[low])


def test_runs_take_longer_by_the_worst_of_what_shrinks(modes: dict[str, PowerModeSettings]) -> None:
    assert most_stretch(modes["MAXN"], modes["15W"]) == pytest.approx(1020 / 612)
    assert most_stretch(modes["25W"], modes["7W"]) == pytest.approx(918 / 408)
    assert most_stretch(modes["15W"], modes["MAXN"]) == 1.0


def test_a_clock_that_only_one_of_two_modes_limits_bounds_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    text = "< POWER_MODEL ID=0 NAME=A >\nGPU MAX_FREQ -1\n< POWER_MODEL ID=1 NAME=B >\nGPU MAX_FREQ 306000000\n"
    (tmp_path / "etc/nvpmodel.conf").write_text(text)
    first, second = [with_ceiling(each, tmp_path) for each in power_mode_settings(tmp_path)]
    assert most_stretch(first, second) is None


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("15W", ""),
        ("7W", "it changes how many cores are on (6 to 4)"),
        ("gated", "it changes which parts of the GPU have power (TPC_POWER_GATING TPC_PG_MASK)"),
    ],
)
def test_what_may_ask_for_a_reboot_is_told(modes: dict[str, PowerModeSettings], then: str, reason: str) -> None:
    assert reboot_reason(modes["25W"], modes[then]) == reason
