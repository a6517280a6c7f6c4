from __future__ import annotations

import pytest

from edge_runtime.errors import DeadlineRefusedError
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes


def request(model, now=0, deadline=None):
    made = Request(model, {}, dict, print, now)
    made.deadline_ns = deadline
    return made


@pytest.fixture
def made():
    """A chain of three segments of 10 with one slot, and a model of one run of 5."""
    times = ServiceTimes(margin=0)
    scheduler = Scheduler(times, 1)
    scheduler.register(ModelPolicy("chain", 1, 9, segments=3))
    scheduler.register(ModelPolicy("short", 4, 9))
    for segment in range(3):
        times.seed("chain", segment, 1, 10)
    times.seed("short", 0, 1, 5)
    return scheduler


def run(scheduler, now, end):
    dispatch = scheduler.next(now)
    scheduler.finish(dispatch, end)
    return dispatch.model, dispatch.segment


def test_one_that_is_due_earlier_goes_between_two_segments(made):
    made.admit(request("chain", deadline=100), 0)
    assert run(made, 0, 10) == ("chain", 0)
    made.admit(request("short", 5, 17), 10)
    assert [run(made, 10, 15), run(made, 15, 25), run(made, 25, 35)] == [("short", 0), ("chain", 1), ("chain", 2)]
    assert made.next(35) is None


def test_one_that_is_due_later_waits_for_the_whole_chain(made):
    made.admit(request("chain", deadline=100), 0)
    made.admit(request("short", deadline=200), 0)
    assert [run(made, at, at + 10) for at in (0, 10, 20, 30)][-1] == ("short", 0)


def test_what_is_left_of_a_chain_counts_when_another_asks(made):
    made.admit(request("chain", deadline=32), 0)
    run(made, 0, 10)
    with pytest.raises(DeadlineRefusedError, match="another one"):
        made.admit(request("short", 10, 20), 10)
    made.admit(request("short", 10, 35), 10)


def test_a_chain_holds_its_slot_to_the_end_and_hurries_for_those_that_wait_for_it(made):
    made.admit(request("chain", deadline=1000), 0)
    run(made, 0, 10)
    made.admit(request("chain", 10, 70), 10)
    made.admit(request("short", 10, 500), 10)
    order = [run(made, 10 + 10 * n, 20 + 10 * n) for n in range(6)]
    assert order == [("chain", 1), ("chain", 2), ("chain", 0), ("chain", 1), ("chain", 2), ("short", 0)]


def test_one_that_needs_the_slot_of_a_chain_waits_for_it_in_the_forecast(made):
    made.admit(request("chain", deadline=1000), 0)
    run(made, 0, 10)
    with pytest.raises(DeadlineRefusedError):
        made.admit(request("chain", 10, 59), 10)
    made.admit(request("chain", 10, 60), 10)


def test_a_chain_that_has_begun_neither_expires_nor_is_withdrawn_nor_given_back(made):
    first = request("chain", deadline=40)
    made.admit(first, 0)
    run(made, 0, 25)
    assert made.take_expired(1000) == []
    assert not made.withdraw(first)
    assert made.waiting() == 0
    assert made.close() == []
    assert run(made, 25, 35) == ("chain", 1)


def test_a_chain_that_failed_goes_no_further(made):
    made.admit(request("chain"), 0)
    made.finish(made.next(0), 10, failed=True)
    assert made.next(10) is None
    made.admit(request("chain"), 10)
    assert made.next(10).segment == 0
