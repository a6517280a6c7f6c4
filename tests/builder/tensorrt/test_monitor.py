from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.builder.tensorrt.monitor import PhaseTree


def test_the_share_that_is_done_counts_phases_inside_steps() -> None:
    tree = PhaseTree()
    tree.start("build", 4)
    assert tree.advance("build", 0) == pytest.approx(0.25)
    tree.start("tactics", 10)
    assert tree.advance("tactics", 4) == pytest.approx(0.25 + 0.25 * 0.5 * 0.5)
    tree.finish("tactics")
    tree.start("code", 2)
    assert tree.advance("code", 0) == pytest.approx(0.25 + 0.25 * (0.5 + 0.25 * 0.5))
    tree.finish("code")
    assert tree.advance("build", 3) == pytest.approx(1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["start", "step", "finish"]), st.integers(-2, 9))))
def test_it_never_falls_and_stays_between_nothing_and_all(events: list[tuple[str, str, int]]) -> None:
    tree, before = PhaseTree(), 0.0
    for phase, kind, number in events:
        if kind == "start":
            tree.start(phase, number)
        elif kind == "finish":
            tree.finish(phase)
        else:
            share = tree.advance(phase, number)
            assert before <= share <= 1
            before = share
