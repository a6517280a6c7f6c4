from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import DeadlineRefusedError
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes


def request(model="a", due=None, group="same", rows=1):
    made = Request(model, {}, dict, print, 0, rows)
    made.deadline_ns, made.group = due, group
    return made


def scheduler(max_batch=4):
    """A run of `a` takes 10, and 2 more for each further row; one of `b` takes 10."""
    times = ServiceTimes(margin=0)
    made = Scheduler(times, 1)
    made.register(ModelPolicy("a", 2, 99, max_batch))
    made.register(ModelPolicy("b", 2, 99))
    for rows in range(1, 9):
        times.seed("a", 0, rows, 8 + 2 * rows)
    times.seed("b", 0, 1, 10)
    return made


def first_run(made, *requests):
    for each in requests:
        made.admit(each, 0)
    return made.next(0)


def test_requests_of_a_group_share_a_run_up_to_its_rows():
    dispatch = first_run(scheduler(), *[request(due=100 + n) for n in range(6)])
    assert (len(dispatch.requests), dispatch.rows) == (4, 4)
    assert [each.deadline_ns for each in dispatch.requests] == [100, 101, 102, 103]


def test_rows_are_counted_not_requests():
    dispatch = first_run(scheduler(), request(rows=2), request(rows=1), request(rows=2))
    assert (len(dispatch.requests), dispatch.rows) == (2, 3)


def test_only_those_of_one_group_and_model_share_a_run():
    requests = [request(), request(group="other"), request(group=None), request("b"), request()]
    assert first_run(scheduler(), *requests).requests == (requests[0], requests[4])
    assert len(first_run(scheduler(), request(group=None), request(group=None)).requests) == 1
    assert len(first_run(scheduler(max_batch=1), request(), request()).requests) == 1


def test_those_with_and_without_a_deadline_share_runs():
    hurried, easy = request(due=50), request()
    assert first_run(scheduler(), easy, hurried).requests == (easy, hurried)


def test_a_run_grows_only_while_its_members_are_in_time():
    dispatch = first_run(scheduler(), request(due=13), *[request(due=100) for _ in range(3)])
    assert dispatch.rows == 2


def test_a_run_grows_only_while_others_that_wait_are_in_time():
    dispatch = first_run(scheduler(), request(due=20), request("b", due=22), *[request(due=100) for _ in range(3)])
    assert dispatch.rows == 2


def test_more_are_taken_in_where_runs_are_shared():
    made = scheduler()
    for _ in range(8):
        made.admit(request(due=32), 0)
    assert made.next(0).rows == 4


def test_a_shared_run_keeps_a_promise_that_only_it_can_keep():
    made = scheduler()
    for each in (request(due=16), request(due=16), request(due=16), request()):
        made.admit(each, 0)
    assert [each.deadline_ns for each in made.next(0).requests][:3] == [16, 16, 16]


def test_nobody_waits_for_others_to_come():
    assert len(first_run(scheduler(), request(due=1000)).requests) == 1


REQUESTS = st.lists(st.tuples(st.sampled_from("aab"), st.integers(10, 120)), min_size=1, max_size=14)


@given(drawn=REQUESTS)
@settings(deadline=None)
def test_nobody_who_was_taken_in_misses_whether_runs_are_shared_or_not(drawn):
    for max_batch in (1, 4):
        made = scheduler(max_batch)
        for model, due in drawn:
            with contextlib.suppress(DeadlineRefusedError):
                made.admit(request(model, due), 0)
        assert late_by(made) <= 0


def late_by(made):
    """By how much the latest of all that waits misses its deadline, run for as long as planned."""
    now, latest = 0, -1
    while True:
        dispatch = made.next(now)
        if dispatch is None:
            return latest
        now += 10 if dispatch.model == "b" else 8 + 2 * dispatch.rows
        made.finish(dispatch, now)
        latest = max([latest, *[now - each.deadline_ns for each in dispatch.requests]])
