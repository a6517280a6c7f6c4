"""Requests that can't be promised their deadline when they come, and may be when runs end early."""

from __future__ import annotations

import pytest

from edge_runtime.errors import DeadlineRefusedError, QueueFullError
from edge_runtime.scheduling.request import Period, Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

COST, PATIENCE = 100, 60


def request(deadline, now=0, model="m", **attributes):
    made = Request(model, {}, dict, print, now)
    made.deadline_ns = deadline
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def made():
    return scheduler()


def scheduler(queue_size=9):
    times = ServiceTimes(margin=0)
    made = Scheduler(times, 1, patience_ns=PATIENCE)
    for name in "mno":
        made.register(ModelPolicy(name, 4, queue_size))
        times.seed(name, 0, 1, COST)
    times.observe = lambda *_: None
    return made


def running(made, deadline=COST):
    """A run that began at 0."""
    made.admit(request(deadline), 0)
    return made.next(0)


def test_one_that_lacks_a_little_is_taken_in_when_the_run_before_it_ends_early(made):
    run, late = running(made), request(190)
    made.admit(late, 10)
    assert made.next(10) is None
    assert (made.waiting(), made.is_idle) == (1, False)
    made.finish(run, 50)
    assert made.next(50).requests == (late,)
    assert made.take_refused(1000) == []


def test_one_for_which_no_room_is_made_is_refused_when_it_has_waited_long_enough(made):
    running(made)
    late = request(190)
    made.admit(late, 10)
    assert made.next_expiry_ns() == 10 + PATIENCE
    assert made.take_refused(69) == []
    [(refused, error)] = made.take_refused(70)
    assert refused is late
    assert isinstance(error, DeadlineRefusedError)
    assert "too late" in str(error)
    assert (made.waiting(), made.next_expiry_ns(), made.take_refused(70)) == (0, None, [])


def test_one_that_could_not_be_done_any_more_is_refused_before_that(made):
    running(made)
    made.admit(request(160), 10)
    assert made.next_expiry_ns() == 60


@pytest.mark.parametrize(("deadline", "now"), [(110, 60), (139, 10), (170, 50)])
def test_one_that_lacks_more_than_the_time_it_may_wait_is_refused_at_once(made, deadline, now):
    running(made)
    with pytest.raises(DeadlineRefusedError):
        made.admit(request(deadline), now)
    assert made.waiting() == 0


def test_what_waits_before_it_counts_too(made):
    running(made)
    for _ in range(3):
        made.admit(request(1000, priority=1), 0)
    with pytest.raises(DeadlineRefusedError, match=r"late"):
        made.admit(request(190), 10)


def test_where_nothing_runs_nobody_waits_for_a_run_to_end(made):
    made.admit(request(100, model="n"), 0)  # promised, and not started
    with pytest.raises(DeadlineRefusedError):
        made.admit(request(199), 0)


def test_nobody_waits_any_longer_when_the_last_run_has_ended_in_vain(made):
    run = running(made)
    late = request(190)
    made.admit(late, 10)
    made._state.times.seed("m", 0, 1, 500)
    made.finish(run, 50)
    assert made.next(50) is None
    assert not made.is_idle
    assert [each for each, _ in made.take_refused(50)] == [late]
    assert made.is_idle


def test_without_patience_everybody_is_refused_at_once():
    times = ServiceTimes(margin=0)
    made = Scheduler(times, 1)
    made.register(ModelPolicy("m", 4, 9))
    times.seed("m", 0, 1, COST)
    running(made)
    with pytest.raises(DeadlineRefusedError):
        made.admit(request(199), 0)


def test_the_most_urgent_of_them_comes_first_and_keeps_its_promise(made):
    run = running(made)
    second, first = request(195, 10), request(190, 10, model="n")
    made.admit(second, 10)
    made.admit(first, 10)
    made.finish(run, 60)
    assert made.next(60).requests == (first,)
    assert made.next(60) is None
    assert [each for each, _ in made.take_refused(70)] == [second]


def test_one_that_is_not_next_is_not_tested_yet(made, monkeypatch):
    run = running(made)
    promised, late = request(210, 10, model="n"), request(300 - 15, 10)
    made.admit(promised, 10)
    made.admit(late, 10)
    assert made.waiting() == 2
    monkeypatch.setattr(made._admission, "check", None)
    made.finish(run, 60)
    assert made.next(60).requests == (promised,)


def test_when_what_was_before_it_is_given_up_it_is_next(made):
    run = running(made)
    before, late = request(215, model="n"), request(285, 60)
    made.admit(before, 0)
    made.admit(late, 60)
    made.finish(run, 116)
    assert made.take_expired(116) == [before]
    assert made.next(116).requests == (late,)


def test_one_of_them_may_not_break_a_promise(made):
    run = running(made)
    promised, late = request(210), request(170, model="n")
    made.admit(promised, 10)
    made.admit(late, 40)
    made.finish(run, 65)
    assert made.next(65).requests == (promised,)
    assert made.waiting() == 1


def test_one_of_each_model_waits_so_that_a_flood_of_one_leaves_room(made):
    running(made)
    made.admit(request(190), 10)
    with pytest.raises(DeadlineRefusedError):
        made.admit(request(190), 10)
    made.admit(request(190, model="n"), 10)
    assert (made.waiting(), made.waiting("m"), made.waiting("n")) == (2, 1, 1)


def test_they_take_no_place_in_the_queue():
    made = scheduler(queue_size=1)
    running(made)
    made.admit(request(190), 10)
    made.admit(request(1000), 10)
    with pytest.raises(QueueFullError):
        made.admit(request(1000), 10)


def test_they_are_withdrawn_and_given_back_like_all_others(made):
    running(made)
    first, second = request(190), request(191, model="n")
    made.admit(first, 10)
    made.admit(second, 10)
    assert made.withdraw(first)
    assert not made.withdraw(first)
    assert made.close() == [second]
    assert made.waiting() == 0


def test_they_share_the_time_by_what_they_are_taken_in_with(made, monkeypatch):
    taken = []
    monkeypatch.setattr(made._state.shares, "taken", lambda model, cost_ns: taken.append((model.name, cost_ns)))
    run = running(made)
    made.admit(request(190, model="n"), 10)
    assert taken == [("m", COST)]
    made.finish(run, 50)
    made.next(50)
    assert taken == [("m", COST), ("n", COST)]


def test_its_refusal_keeps_nothing_alive_and_its_hint_counts_from_then(made):
    running(made)
    made.admit(request(190), 10)
    [(_, error)] = made.take_refused(70)
    assert error.__traceback__ is None
    assert error.retry_after_s == pytest.approx(0.001)


def test_a_stream_is_declared_at_once_or_not_at_all(made):
    running(made)
    with pytest.raises(DeadlineRefusedError):
        made.admit(request(190, 10, stream=Period("camera", 1000, 180)), 10)
