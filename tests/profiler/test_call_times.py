from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_runtime.errors import DataError
from edge_runtime.profiler.call_times import CallTimes

S = 10**9


def test_a_call_under_way_counts_by_its_time():
    calls = CallTimes([(2 * S, 4 * S), (0, 1 * S), (3 * S, 7 * S)], 0)
    done = calls.done_by(np.array([-1, 0.5, 1.5, 3.0, 4.0, 6.0, 7.0, 9.0]))
    assert done.tolist() == pytest.approx([0, 0.5, 1, 1.5, 2.25, 2.75, 3, 3])
    assert (calls.first_start_s, calls.last_end_s) == (0, 7)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**10)), min_size=1, max_size=30))
@example([(16_777_215_997, 0)] * 4)
def test_all_are_done_at_the_end_and_never_fewer_than_before(rows):
    calls = CallTimes([(start, start + took) for start, took in rows], 0)
    done = calls.done_by(np.linspace(-1, 1020, 50))
    assert done[-1] == pytest.approx(len(rows), rel=1e-6)
    assert np.all(np.diff(done) >= -1e-6)


@pytest.mark.parametrize("calls", [[(1, 0)], [1, 2, 3], [(1, 2, 3)]])
def test_what_is_no_list_of_calls_is_refused(calls):
    with pytest.raises(DataError, match=r"expected"):
        CallTimes(calls, 0)


@pytest.mark.parametrize(
    ("period_s", "is_in_step"), [(0.1, True), (0.05, True), (0.2, True), (0.4, True), (0.0931, False), (2.0, False)]
)
def test_calls_on_a_timer_that_sampling_keeps_step_with_are_seen(period_s, is_in_step):
    starts = np.arange(0, 60, period_s)
    calls = CallTimes(np.column_stack([starts, starts + 0.3 * period_s]) * S, 0)
    assert calls.is_in_step(np.arange(0.03, 59, 0.1)) is is_in_step
    assert not CallTimes([(0, S)], 0).is_in_step(np.arange(3.0))


@pytest.mark.parametrize(("period_s", "is_in_step"), [(0.001, False), (0.004, True)])
def test_short_calls_that_python_itself_keeps_in_step_are_not(period_s, is_in_step):
    starts = np.arange(0, 10, period_s)
    calls = CallTimes(np.column_stack([starts, starts + 0.9 * period_s]) * S, 0)
    assert calls.is_in_step(np.arange(1, 9, 0.1) + 0.3 * period_s) is is_in_step
