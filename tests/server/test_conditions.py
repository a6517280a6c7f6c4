from __future__ import annotations

import asyncio

import pytest

from edge_runtime.server.conditions import Conditions, watch_conditions

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


def test_while_a_board_tells_nothing_what_was_known_holds() -> None:
    nothing = Conditions(None, None)
    assert watched(nothing, nothing, MAXN, nothing, Conditions("MAXN", 49), Conditions("MAXN", 51)) == [6]


def test_a_temperature_that_is_told_later_is_what_later_ones_are_held_against() -> None:
    assert watched(Conditions("MAXN", None), Conditions("MAXN", 40), Conditions("MAXN", 55)) == [3]
