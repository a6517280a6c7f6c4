from __future__ import annotations

import pytest

from edge_runtime.errors import (
    DeadlineExpiredError,
    DeadlineRefusedError,
    QueueFullError,
    ServerUnavailableError,
    UnknownNameError,
)
from edge_runtime.scheduling.request import Period, Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

COSTS = {"a": 10, "b": 10, "long": 100}


def request(model="a", now=0, deadline=None, **attributes):
    made = Request(model, {}, encode=dict, emit=print, arrival_ns=now)
    made.deadline_ns = deadline
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def scheduler(costs=COSTS, lanes=1, depth=None, **limits):
    times = ServiceTimes(margin=0)
    made = Scheduler(times, lanes, depth)
    for name, cost in costs.items():
        made.register(ModelPolicy(name, **{"slots": 4, "queue_size": 300, **limits}))
        for segment in range(limits.get("segments", 1)):
            times.seed(name, segment, 1, cost)
    return made


def drain(made, now=0):
    """Runs everything one after the other, as long as it was planned to; the requests of each run."""
    order = []
    while True:
        dispatch = made.next(now)
        if dispatch is None:
            return order
        order.append(dispatch.requests)
        now += COSTS[dispatch.model] if len(dispatch.requests) == 1 else 15
        made.finish(dispatch, now)


def firsts(runs):
    return [each[0] for each in runs]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"deadline": 100}, {"deadline": 200}),
        ({"deadline": 200, "priority": 1}, {"deadline": 100, "priority": 2}),
        ({"deadline": 200, "priority": 7}, {"deadline": 100}),
        ({"priority": 1}, {"priority": 2}),
        ({"priority": 1}, {"deadline": 100}),
    ],
)
def test_priority_comes_first_then_the_deadline(first, second):
    for order in ((first, second), (second, first)):
        made, requests = scheduler(), [request(**each) for each in order]
        for each in requests:
            made.admit(each, 0)
        expected = requests if order[0] is first else requests[::-1]
        assert firsts(drain(made)) == expected


@pytest.mark.parametrize("deadline", [None, 1000])
def test_equals_run_in_the_order_of_their_arrival(deadline):
    made, requests = scheduler(), [request(deadline=deadline) for _ in range(5)]
    for each in requests:
        made.admit(each, 0)
    assert firsts(drain(made)) == requests


def test_a_deadline_that_cant_be_kept_is_refused_and_the_answer_says_when_it_would_have_been():
    made = scheduler()
    made.admit(request(deadline=10), 0)
    made.next(0)
    with pytest.raises(DeadlineRefusedError, match="too late") as caught:
        made.admit(request(deadline=19), 0)
    assert caught.value.retry_after_s == pytest.approx(0.001)
    assert made.waiting() == 0
    made.admit(request(deadline=20), 0)


def test_a_request_is_refused_that_would_break_an_earlier_promise():
    made = scheduler()
    made.admit(request(deadline=15), 0)
    with pytest.raises(DeadlineRefusedError, match="another one"):
        made.admit(request(deadline=12), 0)
    made.admit(request(deadline=25), 0)
    assert len(drain(made)) == 2


def test_a_promise_that_is_broken_already_refuses_nobody():
    made = scheduler()
    made.admit(request("long", deadline=100), 0)
    made.admit(request("long", deadline=200), 0)
    made.next(0)
    made.admit(request(deadline=1000), 150)  # the run should have ended at 100
    assert made.waiting() == 2


def test_a_deadline_that_has_passed_is_none():
    with pytest.raises(DeadlineExpiredError, match="passed"):
        scheduler().admit(request(deadline=5), 5)


def test_a_model_may_let_as_many_wait_as_its_policy_says():
    made = scheduler(queue_size=2)
    for each in ("a", "a", "b"):
        made.admit(request(each), 0)
    with pytest.raises(QueueFullError, match="2 requests waiting"):
        made.admit(request("a"), 0)
    assert (made.waiting("a"), made.waiting("b"), made.waiting()) == (2, 1, 3)


def test_an_unregistered_model_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'long'"):
        scheduler().admit(request("lon"), 0)


def test_nothing_is_refused_for_the_sake_of_an_unknown_model():
    made = Scheduler(ServiceTimes(), 1)
    made.register(ModelPolicy("new", 1, 9))
    for _ in range(9):
        made.admit(request("new", deadline=1), 0)
    dispatch = made.next(0)
    made.finish(dispatch, 100)
    with pytest.raises(DeadlineRefusedError):
        made.admit(request("new", deadline=150), 100)


def test_a_closed_scheduler_gives_back_what_waits_and_takes_nothing():
    made, requests = scheduler(), [request(), request(deadline=500), request(), request("b")]
    for each in requests:
        made.admit(each, 0)
    assert made.close() == requests
    assert made.next(0) is None
    with pytest.raises(ServerUnavailableError, match="shutting down") as caught:
        made.admit(request(), 0)
    assert not isinstance(caught.value, (QueueFullError, DeadlineRefusedError))


def test_a_withdrawn_request_never_runs():
    made, requests = scheduler(), [request(), request(deadline=500), request()]
    for each in requests:
        made.admit(each, 0)
    assert made.withdraw(requests[0])
    assert made.withdraw(requests[1])
    assert not made.withdraw(requests[1])
    assert firsts(drain(made)) == [requests[2]]
    assert not made.withdraw(requests[2])


def test_one_that_cant_be_done_in_time_any_more_is_dropped_before_it_starts():
    made, kept, late = scheduler(), request(deadline=100), request(deadline=30)
    made.admit(kept, 0)
    made.admit(late, 0)
    assert made.next_expiry_ns() == 21
    assert made.take_expired(20) == []
    assert made.take_expired(21) == [late]
    assert (made.waiting(), made.next_expiry_ns()) == (1, 91)
    assert firsts(drain(made, 21)) == [kept]
    assert made.next_expiry_ns() is None


def test_a_model_whose_slots_are_taken_is_passed_over():
    made = scheduler(lanes=2, slots=1)
    requests = [request("a", deadline=100), request("a", deadline=101), request("b", deadline=102)]
    for each in requests:
        made.admit(each, 0)
    started = [made.next(0), made.next(0), made.next(0)]
    assert [each and each.requests for each in started] == [(requests[0],), (requests[2],), None]
    made.finish(started[0], 10)
    assert made.next(10).requests == (requests[1],)


def test_no_more_is_handed_out_than_the_depth_allows():
    made = scheduler(lanes=1, depth=2)
    for _ in range(3):
        made.admit(request(), 0)
    first, second = made.next(0), made.next(0)
    assert made.next(0) is None
    made.finish(first, 10)
    assert made.next(10) is not None
    made.finish(second, 20)


def test_a_run_that_waits_for_its_lane_is_timed_from_the_end_of_the_one_before():
    times = ServiceTimes(margin=0)
    made = Scheduler(times, 1, 2)
    made.register(ModelPolicy("a", 2, 9))
    for _ in range(2):
        made.admit(request(), 0)
    first, second = made.next(0), made.next(0)
    made.finish(first, 30)
    made.finish(second, 50)
    assert times.worst_ns("a", 0, 1) == 30
    assert times.typical_ns("a", 0, 1) == 25


def test_a_run_that_failed_teaches_nothing_and_frees_its_slot():
    times = ServiceTimes(margin=0)
    made = Scheduler(times, 1)
    made.register(ModelPolicy("a", 1, 9))
    made.admit(request(), 0)
    made.finish(made.next(0), 5, failed=True)
    assert not times.knows("a")
    made.admit(request(), 5)
    assert made.next(5) is not None


def test_a_flood_without_deadlines_leaves_another_model_its_half():
    made = scheduler()
    flood, few = [request("a") for _ in range(100)], [request("b") for _ in range(10)]
    for each in (*flood, *few):
        made.admit(each, 0)
    order = firsts(drain(made))
    assert order[20:25] != few[:5]
    assert set(few) <= set(order[:21])
    assert [each for each in order if each.model == "a"] == flood


def test_one_without_a_deadline_waits_where_it_would_break_a_promise():
    made, easy, promised = scheduler(), request("long"), request(deadline=50)
    made.admit(easy, 0)
    made.admit(promised, 0)
    assert firsts(drain(made)) == [promised, easy]


def test_limits_of_a_model_may_change():
    made = scheduler(queue_size=1)
    made.admit(request(), 0)
    made.register(ModelPolicy("a", 1, 2))
    made.admit(request(), 0)
    assert made.waiting("a") == 2
    with pytest.raises(QueueFullError):
        made.admit(request(), 0)


def test_a_stream_gives_its_requests_the_deadline_that_it_declared():
    made = scheduler()
    made.admit(request(stream=Period("camera", 100, 30)), 0)
    assert made.next_expiry_ns() == 21


def test_a_model_is_forgotten_once_nothing_of_it_waits_or_runs():
    made, waits = scheduler(), request(deadline=50)
    made.admit(waits, 0)
    assert not made.remove("a")
    dispatch = made.next(0)
    assert not made.remove("a")
    made.finish(dispatch, 10)
    assert made.remove("a")
    with pytest.raises(UnknownNameError):
        made.admit(request(), 10)
    made.admit(request("b"), 10)


def test_one_that_is_registered_again_begins_with_nothing_known():
    times = ServiceTimes()
    made = Scheduler(times, 1)
    made.register(ModelPolicy("a", 1, 8))
    times.seed("a", 0, 1, 10)
    assert made.remove("a")
    assert not times.knows("a")
    made.register(ModelPolicy("a", 1, 8))
    made.admit(request(deadline=1), 0)
    assert made.next(0) is not None


def test_the_streams_of_a_forgotten_model_leave_their_room_to_others():
    made = scheduler()
    made.admit(request(stream=Period("camera", 20, 20)), 0)
    drain(made)
    with pytest.raises(DeadlineRefusedError):
        made.admit(request("long", now=40, deadline=1000), 40)
    assert made.remove("a")
    made.admit(request("long", now=40, deadline=1000), 40)


def test_one_slow_run_does_not_lock_out_deadlines_for_ever():
    made = scheduler()
    for took in (10, 10, 90):
        made.admit(request("a"), 0)
        made.finish(made.next(0), took)
    refused = 0
    for _ in range(100):
        try:
            made.admit(request("a", deadline=1000 + 50), 1000)
        except DeadlineRefusedError:
            refused += 1
        else:
            break
    assert refused == 32
    assert made.next(1000) is not None


def test_what_usually_takes_too_long_stays_refused():
    made = scheduler()
    for _ in range(100):
        with pytest.raises(DeadlineRefusedError):
            made.admit(request("long", deadline=50), 0)
