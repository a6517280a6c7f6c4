"""Rungs of a ladder on virtual time."""

from __future__ import annotations

import math
from typing import Any, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.plan.ladder import LadderTable
from edge_runtime.scheduling.ladder import Ladder, Pressure, Step, most_switches

S = 1_000_000_000
HOT, WARM, COOL = Pressure(headroom_c=1.0), Pressure(headroom_c=6.0), Pressure(headroom_c=30.0)


def table(**values: Any) -> LadderTable:
    known = {"on_throttle": False, "headroom_c": 5, "dwell_s": 10, "return_dwell_s": 30, "most_return_dwell_s": 240}
    return LadderTable(**{"rungs": ["int8"], **known, **values})


def steps(ladder: Ladder, *phases: tuple[Pressure, int], start_s: int = 0) -> list[tuple[int, int, int]]:
    """When it switched, from where and to where, with a figure a second: each for so many seconds."""
    found = []
    inputs = [pressure for pressure, length_s in phases for _ in range(length_s)]
    for second, pressure in enumerate(inputs, start_s):
        step = ladder.update(pressure, second * S)
        if step is not None:
            found.append((second, step.source, step.target))
    return found


def test_it_steps_down_when_hot_and_returns_when_it_was_calm_for_long() -> None:
    assert steps(Ladder(table(), 2), (HOT, 60), (COOL, 100)) == [(10, 0, 1), (90, 1, 0)]


def test_between_the_thresholds_it_stays_where_it_is() -> None:
    ladder = Ladder(table(), 2)
    assert steps(ladder, (WARM, 500)) == []
    assert steps(ladder, (HOT, 1), (WARM, 500), start_s=500) == [(500, 0, 1)]


def test_calm_must_last_without_a_break() -> None:
    assert steps(Ladder(table(), 2), (HOT, 20), (COOL, 29), (WARM, 1), (COOL, 31)) == [(10, 0, 1), (80, 1, 0)]


def test_it_goes_down_and_back_rung_by_rung() -> None:
    found = steps(Ladder(table(), 3), (HOT, 60), (COOL, 100))
    assert found == [(10, 0, 1), (20, 1, 2), (90, 2, 1), (120, 1, 0)]


def test_each_return_that_is_undone_doubles_the_wait_for_the_next_up_to_a_bound() -> None:
    ladder, waits, now = Ladder(table(), 2), [], 0
    for _ in range(6):
        down = next(second for second in range(now, 10**5) if ladder.update(HOT, second * S))
        now = next(second for second in range(down + 1, 10**5) if ladder.update(COOL, second * S))
        waits.append(now - down - 1)
    assert waits == [30, 60, 120, 240, 240, 240]


def test_a_return_that_held_brings_the_wait_back() -> None:
    ladder = Ladder(table(), 2)
    steps(ladder, (HOT, 11), (COOL, 31), (HOT, 11))
    assert ladder.return_dwell_s == 60
    steps(ladder, (COOL, 60 + 240), (HOT, 11), start_s=53)
    assert ladder.return_dwell_s == 30


UNKNOWN = [Pressure(), Pressure(headroom_c=math.nan)]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=["None", "NaN"])
def test_an_unknown_figure_neither_presses_nor_lets_it_return(unknown: Pressure) -> None:
    assert steps(Ladder(table(), 2), (unknown, 500)) == []
    assert steps(Ladder(table(), 2), (HOT, 20), (unknown, 5000), (COOL, 31)) == [(10, 0, 1), (5050, 1, 0)]


def test_a_figure_that_was_never_known_does_not_count() -> None:
    ladder = Ladder(table(miss_share=0.1), 2)
    assert steps(ladder, (Pressure(miss_share=0.5), 20), (Pressure(miss_share=0.0), 31)) == [(10, 0, 1), (50, 1, 0)]


@pytest.mark.parametrize(
    ("settings", "pressing", "calm", "reason", "text"),
    [
        ({"on_throttle": True}, {"is_throttled": True}, {"is_throttled": False}, "throttle", "throttled"),
        ({}, {"headroom_c": 4.9}, {"headroom_c": 10}, "headroom", "headroom 4.9 °C, limit 5"),
        ({"power_budget_w": 10}, {"power_w": 10.1}, {"power_w": 9}, "power", "power 10.1 W, budget 10"),
        ({"queue_delay_ms": 8}, {"queue_delay_ms": 9}, {"queue_delay_ms": 4}, "queue", "wait 9.0 ms, limit 8"),
        ({"miss_share": 0.1}, {"miss_share": 0.2}, {"miss_share": 0.05}, "misses", "misses 0.200, limit 0.1"),
    ],
)
def test_every_trigger_says_why_with_figures(
    settings: dict, pressing: dict, calm: dict, reason: str, text: str
) -> None:
    ladder = Ladder(table(**settings), 2)
    ladder.update(Pressure(**pressing), 0)
    assert ladder.update(Pressure(**pressing), 10 * S) == Step(0, 1, reason, text)
    ladder.update(Pressure(**calm), 11 * S)
    back = ladder.update(Pressure(**calm), 41 * S)
    assert back is not None
    assert (back.target, back.reason, back.text.startswith("calm for 30 s: ")) == (0, "calm", True)


figures = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 3.0, 6.0, 30.0]))
pressures = st.builds(Pressure, st.sampled_from([None, False, True]), figures, figures, figures, figures)
tables = st.builds(
    lambda dwell, back, doublings, more: table(
        dwell_s=dwell, return_dwell_s=back, most_return_dwell_s=back * 2**doublings + more, on_throttle=True,
        power_budget_w=3, queue_delay_ms=3, miss_share=0.5,
    ),
    st.integers(1, 20), st.integers(1, 40), st.integers(0, 5), st.integers(0, 9),
)  # fmt: skip


def switched_s(ladder: Ladder, inputs: Iterable[tuple[int, Pressure]]) -> list[int]:
    now_s, found = 0, []
    for after_s, pressure in inputs:
        now_s += after_s
        if ladder.update(pressure, now_s * S) is not None:
            found.append(now_s)
    return found


def check_bound(which: LadderTable, count: int, found: list[int]) -> None:
    """No span, whatever its length, has more switches than the bound says."""
    for first in range(len(found)):
        for last in range(first, len(found)):
            assert last - first + 1 <= most_switches(which, count, found[last] - found[first])


@settings(deadline=None, max_examples=300)
@given(tables, st.integers(2, 4), st.lists(st.tuples(st.integers(0, 90), pressures), max_size=120))
def test_no_figures_whatever_make_it_switch_more_often_than_the_bound(which: Any, count: int, inputs: Any) -> None:
    check_bound(which, count, switched_s(Ladder(which, count), inputs))


@settings(deadline=None, max_examples=150)
@given(tables, st.integers(2, 4), st.lists(st.integers(0, 400), max_size=60))
def test_nor_does_one_who_knows_its_state_and_waits_for_the_worst_moment(
    which: Any, count: int, patience_s: list[int]
) -> None:
    ladder, now_s, found = Ladder(which, count), 0, []
    for pause_s in patience_s:  # it sees the rung: presses on the top one after a while, and is calm below at once
        wanted = Pressure(False, 30.0, 0.0, 0.0, 0.0) if ladder.rung else Pressure(True)
        begun_s = now_s if ladder.rung else now_s + pause_s
        now_s = next(each for each in range(begun_s, begun_s + 2000) if ladder.update(wanted, each * S) is not None)
        found.append(now_s)
    assert len(found) == len(patience_s)
    check_bound(which, count, found)


@settings(deadline=None, max_examples=100)
@given(tables, st.integers(2, 4), pressures)
def test_under_figures_that_do_not_change_it_settles(which: Any, count: int, pressure: Pressure) -> None:
    found = switched_s(Ladder(which, count), [(1, pressure)] * 600)
    assert len(found) in (0, count - 1)
    assert not found or found[-1] <= 2 + (count - 1) * which.dwell_s


@settings(deadline=None, max_examples=100)
@given(tables, st.integers(2, 4), st.lists(st.floats(0, 60), min_size=1, max_size=200))
def test_stress_that_only_grows_only_leads_down(which: Any, count: int, headrooms: list[float]) -> None:
    ladder, rungs = Ladder(which, count), []
    for second, headroom_c in enumerate(sorted(headrooms, reverse=True)):
        ladder.update(Pressure(headroom_c=headroom_c), 5 * second * S)
        rungs.append(ladder.rung)
    assert rungs == sorted(rungs)
