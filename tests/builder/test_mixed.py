from __future__ import annotations

import math
from typing import FrozenSet, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.builder.mixed import GroupError, kept_float


def group(name: str, error: float, macs: float) -> GroupError:
    return GroupError(name, "layer", frozenset({name}), error, macs)


def additive(groups: List[GroupError], allowed: float, calls: List[FrozenSet[str]]):
    """A gate that lets errors up to `allowed` pass, in a world where the errors of groups add up."""

    def passes(kept: FrozenSet[str]) -> bool:
        calls.append(kept)
        return sum(one.error for one in groups if one.group not in kept) <= allowed

    return passes


def test_the_layer_that_hurts_most_for_its_work_stays_in_float_alone() -> None:
    groups = [group("a", 0.1, 0.5), group("head", 0.5, 0.01), group("b", 0.1, 0.49)]
    assert kept_float(groups, additive(groups, 0.25, []), 0.5) == {"head"}


def test_a_cheap_layer_is_given_up_before_a_dear_one_of_the_same_error() -> None:
    groups = [group("dear", 0.3, 0.6), group("cheap", 0.3, 0.1), group("rest", 0.0, 0.3)]
    assert kept_float(groups, additive(groups, 0.3, []), 0.2) == {"cheap"}


def test_what_went_along_for_nothing_is_put_back_into_int8() -> None:
    groups = [group("tiny", 0.02, 0.0), group("big", 0.5, 0.3), group("rest", 0.01, 0.7)]
    assert kept_float(groups, additive(groups, 0.05, []), 0.5) == {"big"}


@pytest.mark.parametrize("min_int8", [0.5, 0.9])
def test_nothing_comes_of_it_if_too_much_would_have_to_stay_in_float(min_int8: float) -> None:
    groups = [group(f"g{index}", 0.1, 0.1) for index in range(10)]
    assert kept_float(groups, additive(groups, 0.05, []), min_int8) is None


def test_what_would_cost_too_much_in_float_is_passed_over() -> None:
    groups = [group("dear", 2.0, 0.6), group("a", 0.3, 0.1), group("b", 0.3, 0.1), group("rest", 0.0, 0.2)]
    assert kept_float(groups, lambda nodes: nodes == {"a", "b"}, 0.5) == {"a", "b"}


def test_of_groups_without_bound_the_cheapest_goes_first() -> None:
    groups = [group("a dear", math.inf, 0.49), group("z cheap", math.inf, 0.01), group("rest", 0.0, 0.5)]
    assert kept_float(groups, lambda nodes: "z cheap" in nodes, 0.5) == {"z cheap"}


def test_no_groups_no_answer() -> None:
    assert kept_float([], lambda nodes: True, 0.0) is None


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 1)), min_size=1, max_size=40),
    st.floats(0, 5),
    st.floats(0, 1),
)
def test_what_is_found_passes_keeps_enough_int8_and_takes_few_measurements(
    values: List[tuple], allowed: float, min_int8: float
) -> None:
    total = sum(macs for _, macs in values)
    groups = [group(f"g{index}", error, macs / total) for index, (error, macs) in enumerate(values)]
    calls: List[FrozenSet[str]] = []
    kept = kept_float(groups, additive(groups, allowed, calls), min_int8)
    assert len(calls) <= 20
    if kept is not None:
        assert additive(groups, allowed, [])(kept)
        assert sum(one.macs for one in groups if one.group not in kept) >= min_int8 - 1e-9
