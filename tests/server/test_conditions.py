from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_runtime.server.conditions import Conditions, read_conditions, watch_conditions

MAXN = Conditions("MAXN", 40.0)


@pytest.mark.parametrize(
    ("now", "is_other"),
    [
        (Conditions("MAXN", 49.9), False),
        (Conditions("MAXN", 50.0), True),
        (Conditions("MAXN", 30.0), True),
        (Conditions("15W", 40.0), True),
        (Conditions(None, 40.0), True),
        (Conditions("MAXN", None), False),
    ],
)
def test_another_power_mode_or_ten_degrees_are_other_conditions(now: Conditions, is_other: bool) -> None:
    assert now.differ_from(MAXN) is is_other


def watched(*readings: Conditions) -> list[int]:
    """After how many readings it was said that times must be learnt anew."""
    left, said = list(readings), []

    def read() -> Conditions:
        return left.pop(0)

    async def main() -> None:
        with pytest.raises(IndexError):
            await watch_conditions(lambda: said.append(len(readings) - len(left)), read, 0)

    asyncio.run(main())
    return said


def test_times_are_learnt_anew_with_each_change_and_a_slow_rise_counts_from_the_last_one() -> None:
    warm = [Conditions("MAXN", degrees) for degrees in (40, 46, 52, 58, 61, 62)]
    assert watched(*warm, Conditions("15W", 62)) == [3, 6, 7]


def test_a_machine_that_tells_nothing_is_not_watched() -> None:
    said: list[None] = []
    asyncio.run(asyncio.wait_for(watch_conditions(lambda: said.append(None), lambda: Conditions(None, None), 0), 5))
    assert said == []


def test_conditions_are_read_from_the_board(tmp_path: Path) -> None:
    for path, text in {
        "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=15W >\n",
        "var/lib/nvpmodel/status": "pmode:0002\n",
        "sys/class/thermal/thermal_zone0/temp": "41500\n",
        "sys/class/thermal/thermal_zone1/temp": "52000\n",
        "sys/class/thermal/thermal_zone2/temp": "-256000\n",
        "sys/class/thermal/cooling_device0/temp": "99000\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert read_conditions(tmp_path) == Conditions("15W", 52.0)
    assert read_conditions(tmp_path / "none") == Conditions(None, None)
