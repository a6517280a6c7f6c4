from __future__ import annotations

import pytest

from edge_runtime.errors import DeadlineRefusedError, InvalidRequestError
from edge_runtime.scheduling.request import Period, Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

MS = 1_000_000
CAMERA = Period("camera", 30 * MS, 30 * MS)


def scheduler(lanes=1, **costs_ms):
    times = ServiceTimes(margin=0)
    made = Scheduler(times, lanes)
    for name, ms in costs_ms.items():
        made.register(ModelPolicy(name, 4, 100))
        times.seed(name, 0, 1, ms * MS)
    return made


def request(model, now_ms=0, due_ms=None, stream=None):
    made = Request(model, {}, dict, print, int(now_ms * MS))
    made.deadline_ns = None if due_ms is None else int((now_ms + due_ms) * MS)
    made.stream = stream
    return made


def admit(made, *args, **options):
    each = request(*args, **options)
    made.admit(each, each.arrival_ns)
    return each


def serve(made, now_ms):
    """Runs all that waits, each for as long as it was planned to."""
    now = int(now_ms * MS)
    while True:
        dispatch = made.next(now)
        if dispatch is None:
            return
        now += dispatch._run_ns
        made.finish(dispatch, now)


def test_a_stream_that_doesnt_fit_beside_the_others_is_refused_at_its_first_request():
    made = scheduler(detector=12, reader=12)
    admit(made, "detector", stream=CAMERA)
    with pytest.raises(DeadlineRefusedError, match=r"stream 'second'.*12\.000 ms every 30\.000 ms"):
        admit(made, "reader", stream=Period("second", 30 * MS, 20 * MS))
    admit(made, "reader", stream=Period("second", 30 * MS, 30 * MS))


def test_a_stream_isnt_declared_where_others_in_use_would_block_it():
    made = scheduler(detector=12, long=25)
    admit(made, "long", 0, 1000)
    with pytest.raises(DeadlineRefusedError, match="stream"):
        admit(made, "detector", stream=CAMERA)


def test_a_run_that_would_block_a_stream_is_refused_while_the_stream_lives():
    made = scheduler(detector=12, long=25)
    admit(made, "detector", stream=CAMERA)
    serve(made, 0)
    for due_ms in (1000, None):
        with pytest.raises(DeadlineRefusedError, match=r"25\.000 ms, and the declared streams"):
            admit(made, "long", 20, due_ms)
    admit(made, "long", 1100, 1000)  # nothing came of the stream for a second


def test_one_that_comes_before_its_period_has_passed_is_promised_nothing_by_the_stream():
    made = scheduler(detector=12)
    admit(made, "detector", 0, 30, CAMERA)
    admit(made, "detector", 1, 30, CAMERA)
    with pytest.raises(DeadlineRefusedError):
        admit(made, "detector", 2, 30, CAMERA)
    serve(made, 2)
    admit(made, "detector", 30, 30, CAMERA)


def test_room_is_kept_for_the_next_request_of_a_stream():
    made = scheduler(detector=12, other=5)
    admit(made, "detector", 0, 30, CAMERA)
    serve(made, 0)
    for _ in range(4):
        admit(made, "other", 25, 32)
    with pytest.raises(DeadlineRefusedError):
        admit(made, "other", 25, 32)
    admit(made, "detector", 30, 30, CAMERA)
    assert made.waiting() == 5


def test_a_stream_of_unknown_service_time_is_served_like_any_other():
    made = Scheduler(ServiceTimes(), 1)
    made.register(ModelPolicy("new", 1, 9))
    admit(made, "new", 0, 30, CAMERA)
    admit(made, "new", 1, 30, CAMERA)
    assert made.waiting() == 2


def test_streams_are_spread_over_the_lanes():
    made = scheduler(lanes=2, detector=20)
    first, second = Period("first", 30 * MS, 30 * MS), Period("second", 30 * MS, 30 * MS)
    admit(made, "detector", stream=first)
    admit(made, "detector", stream=second)
    with pytest.raises(DeadlineRefusedError, match="'third'"):
        admit(made, "detector", stream=Period("third", 30 * MS, 30 * MS))
    assert [made.next(0).requests[0].stream for _ in range(2)] == [first, second]


def test_a_stream_is_tested_anew_when_its_model_has_become_slower():
    made = scheduler(detector=12, other=5)
    admit(made, "detector", 0, 30, CAMERA)
    made.finish(made.next(0), 27 * MS)
    with pytest.raises(DeadlineRefusedError, match=r"5\.000 ms, .* at most 2\.531 ms"):
        admit(made, "other", 28, 500)


@pytest.mark.parametrize("declared", [Period("none", 0, 10), Period("none", 10, 0)])
def test_a_stream_without_a_period_or_a_deadline_is_none(declared):
    made = scheduler(detector=12)
    with pytest.raises(InvalidRequestError, match="at least 1"):
        admit(made, "detector", 0, 30, declared)
    assert made.waiting() == 0


def test_nothing_else_starts_on_a_lane_whose_streams_it_would_make_late():
    made = scheduler(lanes=2, first=3, second=4, detector=8, other=13)
    admit(made, "first", 0, 100)
    admit(made, "second", 0, 100)
    running = [made.next(0), made.next(0)]
    for key in ("left", "right"):
        admit(made, "detector", 0, 30, Period(key, 30 * MS, 30 * MS))
    made.finish(running[0], 3 * MS)
    admit(made, "other", 3, 22)  # due first, but 3 + 13 + 8 + 8 is over 30
    assert made.next(3 * MS).model == "detector"
    made.finish(running[1], 4 * MS)
    assert made.next(4 * MS).model == "other"


@pytest.mark.parametrize(("is_declared", "following"), [(True, None), (False, "other")])
def test_no_more_is_handed_out_ahead_than_a_stream_bears(is_declared, following):
    times = ServiceTimes(margin=0)
    made = Scheduler(times, 1, 2)
    for name, ms in (("detector", 12), ("other", 10)):
        made.register(ModelPolicy(name, 4, 100))
        times.seed(name, 0, 1, ms * MS)
    if is_declared:
        admit(made, "detector", 0, 30, CAMERA)
        serve(made, 0)
    for _ in range(2):
        admit(made, "other", 12, 200)
    assert made.next(12 * MS).model == "other"
    dispatch = made.next(12 * MS)
    assert (dispatch and dispatch.model) == following


def test_streams_are_bounded_and_those_that_are_there_go_on():
    made = scheduler(detector=1)
    day = 86_400_000 * MS
    for number in range(100):
        admit(made, "detector", stream=Period(number, day, day))
    serve(made, 0)
    with pytest.raises(DeadlineRefusedError, match="100 are declared already"):
        admit(made, "detector", stream=Period(100, day, day))
    admit(made, "detector", 86_400_000, stream=Period(7, day, day))
    admit(made, "detector", 864_000_001, stream=Period(100, day, day))
