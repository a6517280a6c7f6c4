from __future__ import annotations

import itertools

from edge_runtime.engine.process.backoff import Backoff


def test_the_first_time_is_at_once_and_then_twice_as_long_each_time_up_to_a_bound() -> None:
    backoff = Backoff(lambda: 0.0, first_s=1, longest_s=8)
    assert [backoff.delay_s() for _ in range(7)] == [0, 1, 2, 4, 8, 8, 8]


def test_what_has_lasted_begins_anew_and_what_has_not_does_not() -> None:
    times = itertools.chain([0.0, 29.0], [100.0, 130.0])
    backoff = Backoff(lambda: next(times), first_s=1, settled_s=30)
    assert [backoff.delay_s() for _ in range(2)] == [0, 1]
    backoff.begun()
    assert backoff.delay_s() == 2
    backoff.begun()
    assert backoff.delay_s() == 0
