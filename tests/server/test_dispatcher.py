from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from functools import partial
from typing import Any, Callable

import numpy as np
import pytest

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import (
    BackendError,
    DeadlineExpiredError,
    DeadlineRefusedError,
    InvalidRequestError,
    NotJsonError,
    QueueFullError,
    ServerUnavailableError,
)
from edge_runtime.scheduling.policy import ModelPolicy
from edge_runtime.scheduling.request import DELIVERED, Request
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.server import planner
from edge_runtime.server.dispatcher import Dispatcher
from edge_runtime.server.statistics import ModelStatistics
from edge_runtime.server.work import Work

MS = 1_000_000


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def do(self, call: Callable[[], Any]) -> Any:
        """What `call` gives on the loop's thread; awaited, if it is a coroutine."""

        async def done() -> Any:
            result = call()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(20)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Harness:
    """A dispatcher, its counters, and outcomes in the order in which they were emitted."""

    def __init__(self, loop: Loop, engine: Engine, queue_size: int = 8, run_ns: int = 0, **options: Any) -> None:
        self.loop = loop
        self.engine = engine
        self.statistics = ModelStatistics()
        self.outcomes: list[Any] = []
        self.threads: list[str] = []
        self.counts_when_emitted: list[tuple[int, dict[str, int]]] = []
        self._emitted = threading.Semaphore(0)
        self.times = ServiceTimes()
        if run_ns:
            self.times.seed("gated", 0, 1, run_ns)
        policy = ModelPolicy("gated", engine.slot_count, queue_size, options.pop("max_batch", 0))
        is_shared = options.pop("is_shared", True)
        self.dispatcher = loop.do(
            lambda: Dispatcher(self.times, engine.slot_count, engine.slot_count, is_shared, **options)
        )
        self.work = Work(engine, self.statistics, policy)
        if run_ns:
            self.work.usual_ns[1] = run_ns
        loop.do(lambda: self.dispatcher.add(self.work))

    def request(self, value: float = 0.0, encode: Callable[[Any], Any] | None = None, rows: int = 1) -> Request:
        feeds = {"x": np.full((rows, 4), value, np.float32)}
        return Request("gated", feeds, encode or self._encode, self._emit, 0, rows)

    def _encode(self, outputs: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        return outputs["y"][0, 0]

    def _emit(self, outcome: Any) -> None:
        self.outcomes.append(outcome)
        self.counts_when_emitted.append(self.counts)
        self._emitted.release()

    def send(self, request: Request) -> None:
        self.loop.do(lambda: self.dispatcher.submit(request))

    def submit(self, *values: float) -> list[Request]:
        requests = [self.request(value) for value in values]
        for request in requests:
            self.send(request)
        return requests

    def cancel(self, request: Request) -> bool:
        return self.loop.do(lambda: self.dispatcher.cancel(request))  # type: ignore[no-any-return]

    def pending(self) -> int:
        return self.loop.do(lambda: self.dispatcher.pending("gated"))  # type: ignore[no-any-return]

    def close(self, timeout_s: float = 10) -> bool:
        return self.loop.do(lambda: self.dispatcher.close(timeout_s))  # type: ignore[no-any-return]

    def wait(self, outcomes: int) -> list[Any]:
        for _ in range(outcomes):
            assert self._emitted.acquire(timeout=10)
        return self.outcomes

    @property
    def counts(self) -> tuple[int, dict[str, int]]:
        totals = self.statistics.totals
        return totals.success, {reason: count for reason, count in totals.failures.items() if count}


@pytest.fixture
def harness(gated):
    loop, made = Loop(), []

    def make(engine: Engine | None = None, **options: Any) -> Harness:
        made.append(Harness(loop, engine or gated.engine, **options))
        return made[-1]

    yield make
    gated.release(100)
    assert all(each.close() for each in made)
    loop.close()


def failing_first(gated, error: Exception) -> Engine:
    """The gated engine, whose first run raises `error`."""
    errors = [error]
    run = gated.run

    def run_or_fail() -> Any:
        if errors:
            raise errors.pop()
        return run()

    gated.run = run_or_fail
    return gated.engine


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "edge_runtime.server.run"]


def test_requests_run_in_the_order_of_their_arrival(harness, gated):
    run = harness()
    run.submit(*range(8))
    gated.release(8)
    assert run.wait(8) == list(range(8))
    assert run.counts == (8, {})


def test_a_full_queue_refuses_and_counts_it(harness, gated):
    run = harness(queue_size=2)
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    run.submit(2, 3)
    assert run.pending() == 2
    with pytest.raises(QueueFullError):
        run.submit(4)
    gated.release(3)
    assert run.wait(3) == [1, 2, 3]
    assert run.counts == (3, {"REJECTED": 1})


def test_a_request_cancelled_while_it_waits_is_never_run(harness, gated):
    run = harness(queue_size=1)
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    (gone,) = run.submit(2)
    assert run.cancel(gone)
    run.submit(3)
    gated.release(2)
    assert run.wait(2) == [1, 3]
    assert (gated.runs, run.counts) == (2, (2, {"CANCELED": 1}))


def test_a_request_cancelled_while_it_runs_is_finished_and_counted_once(harness, gated):
    run = harness()
    (running,) = run.submit(1)
    assert gated.begun.acquire(timeout=10)
    assert not run.cancel(running)
    gated.release()
    assert (run.wait(1), run.counts) == ([1], (1, {}))


def test_a_failed_run_is_told_counted_and_survived(harness, gated, caplog):
    run = harness(failing_first(gated, BackendError("node 7 failed")))
    run.submit(1, 2)
    gated.release()
    first, second = run.wait(2)
    assert (type(first), second, run.counts) == (BackendError, 2, (1, {"BACKEND": 1}))
    assert [record.getMessage() for record in ours(caplog)] == ["model gated: node 7 failed"]


def test_an_unforeseen_failure_is_told_without_its_text_and_survived(harness, gated, caplog):
    run = harness(failing_first(gated, ZeroDivisionError("secret")))
    run.submit(1, 2)
    gated.release()
    first, second = run.wait(2)
    assert (type(first), second, run.counts) == (BackendError, 2, (1, {"BACKEND": 1}))
    assert "secret" not in str(first)
    assert ours(caplog)[0].exc_info


def test_an_answer_that_can_not_be_encoded_is_left_to_the_transport_to_count(harness, gated):
    run = harness()

    def encode(_: Any) -> None:
        raise NotJsonError("NaN")

    run.send(run.request(encode=encode))
    gated.release()
    assert (type(run.wait(1)[0]), run.counts) == (NotJsonError, (0, {}))


def test_outcomes_are_counted_before_anybody_hears_of_them(harness, gated):
    run = harness(failing_first(gated, BackendError("x")))
    run.submit(1, 2)
    gated.release()
    run.wait(2)
    first, second = run.counts_when_emitted
    assert first in [(0, {"BACKEND": 1}), (1, {"BACKEND": 1})]  # the lane may have gone on with the second meanwhile
    assert second == (1, {"BACKEND": 1})


def test_the_slot_is_held_while_the_answer_is_encoded_and_free_when_it_is_emitted(harness, gated):
    run = harness()
    idle: list[bool] = []
    request = run.request(encode=lambda outputs: idle.append(gated.engine._idle.empty()))
    emit = request.emit

    def emitted(outcome: Any) -> None:
        idle.append(gated.engine._idle.empty())
        emit(outcome)

    request.emit = emitted
    run.send(request)
    gated.release()
    run.wait(1)
    assert idle == [True, False]


def test_as_many_run_at_once_as_there_are_slots(harness, gated):
    gated.engine = Engine(gated.engine.info, gated.engine.signature, lambda: gated, slots=3)
    run = harness(gated.engine)
    run.submit(1, 2, 3, 4)
    assert all(gated.begun.acquire(timeout=10) for _ in range(3))
    assert run.pending() == 1
    gated.release(4)
    run.wait(4)


def test_durations_are_those_of_the_clock(harness, gated):
    ticks = itertools.count(1000, 1000)
    run = harness(clock=lambda: next(ticks))
    gated.release()
    run.submit(1)
    run.wait(1)
    totals = run.statistics.totals
    assert totals.success_ns == sum(totals.parts_ns)
    assert totals.parts_ns[1:] == [1000, 1000, 1000]


def test_close_gives_up_what_waits_and_lets_what_runs_finish(harness, gated):
    run = harness()
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    run.submit(2, 3)
    closing = threading.Thread(target=run.close)
    closing.start()
    given_up = run.wait(2)
    assert all(type(outcome) is ServerUnavailableError for outcome in given_up)
    gated.release()
    closing.join(10)
    assert (run.wait(1)[-1], run.counts) == (1, (1, {"REJECTED": 2}))
    with pytest.raises(ServerUnavailableError):
        run.submit(4)
    assert run.counts == (1, {"REJECTED": 3})


def test_close_gives_up_on_a_run_that_hangs_and_says_so(harness, gated):
    run = harness()
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    assert not run.close(0.01)
    gated.release()
    assert run.close()


def test_everybody_gets_their_own_answer(harness, gated):
    gated.release(401)
    run = harness(queue_size=400)
    answers: dict[float, Any] = {}

    def send_all() -> None:
        for value in range(400):
            request = run.request(value)
            request.emit = partial(answers.__setitem__, value)
            run.dispatcher.submit(request)

    run.loop.do(send_all)
    run.submit(-1)
    run.wait(1)
    assert (answers, run.counts) == ({value: value for value in range(400)}, (401, {}))


def test_a_request_error_of_the_engine_is_told_as_it_is(harness, gated):
    run = harness(failing_first(gated, InvalidRequestError("shape")))
    run.submit(1)
    assert str(run.wait(1)[0]) == "shape"


def test_a_short_model_runs_on_the_loops_thread_and_a_long_one_does_not(harness, gated):
    gated.release(2)
    for run_ns, is_inline in ((100_000, True), (160_000, False)):
        run = harness(run_ns=run_ns)
        run.submit(1)
        run.wait(1)
        assert [not name.startswith("lane") for name in run.threads] == [is_inline]


def test_a_model_that_became_slow_leaves_the_loops_thread_until_it_is_fast_again(harness, gated):
    step, now = [100_000], [0]

    def clock() -> int:
        now[0] += step[0]
        return now[0]

    run = harness(run_ns=100_000, clock=clock, queue_size=64)
    gated.release(400)
    for _ in range(50):
        run.submit(1)
    run.wait(50)
    assert (run.work.inline_rows, run.threads[-1][:4]) == (0, "lane")
    step[0] = 1000
    for _ in range(50):
        run.submit(1)
        run.wait(1)
    assert run.work.inline_rows == 1
    assert not run.threads[-1].startswith("lane")


def test_an_answer_that_takes_long_to_encode_is_left_to_a_lane(harness, gated):
    gated.release()
    run = harness(run_ns=1000)
    request = run.request()
    request.is_light = False
    run.send(request)
    run.wait(1)
    assert run.threads[0].startswith("lane")


def test_a_short_model_of_an_exclusive_accelerator_runs_on_the_loops_thread_while_it_is_idle(harness, gated):
    run = harness(run_ns=1000, is_shared=False)
    gated.release()
    run.submit(1)
    run.wait(1)
    run.work.inline_rows = 0
    run.submit(2)
    assert gated.begun.acquire(timeout=10)
    assert gated.begun.acquire(timeout=10)
    run.work.inline_rows = 1
    run.submit(3)
    gated.release(2)
    assert run.wait(2) == [1, 2, 3]
    assert [name.startswith("lane") for name in run.threads] == [False, True, True]


def test_requests_of_one_tick_run_by_priority_and_deadline(harness, gated):
    gated.release(4)
    run = harness(run_ns=1000)
    requests = [run.request(value) for value in range(4)]
    now_ns = run.dispatcher.now_ns()
    for request, priority, deadline_ms in zip(requests, (0, 0, 0, 1), (None, 900, 700, 900)):
        request.priority = priority
        request.deadline_ns = None if deadline_ms is None else now_ns + deadline_ms * MS
    run.loop.do(lambda: [run.dispatcher.submit(request) for request in requests])
    assert run.wait(4) == [3, 2, 1, 0]


@pytest.mark.parametrize("is_inline", [True, False])
def test_a_request_that_gave_its_place_up_is_told_and_counted_once(harness, gated, is_inline):
    run = harness(queue_size=2, run_ns=140_000 if is_inline else MS)
    requests = [run.request(value) for value in range(4 - is_inline)]
    requests[-1].client = "another"

    def submit():
        for request in requests:
            run.dispatcher.submit(request)

    gated.release(3 if is_inline else 0)
    run.loop.do(submit)
    if not is_inline:
        assert type(run.wait(1)[0]) is QueueFullError  # before anything has run
        gated.release(3)
    outcomes = run.wait(3)
    assert ([type(each) for each in outcomes].count(QueueFullError), len(requests) - 1 in outcomes) == (1, True)
    assert run.counts == (3 - is_inline, {"REJECTED": 1})


@pytest.mark.parametrize("is_inline", [True, False])
def test_a_deadline_that_can_not_be_kept_is_refused_with_when_to_come_again(harness, gated, is_inline):
    run = harness(run_ns=140_000 if is_inline else 50 * MS)
    request = run.request()
    request.deadline_ns = run.dispatcher.now_ns() + (50_000 if is_inline else 30 * MS)
    with pytest.raises((DeadlineRefusedError, DeadlineExpiredError)) as caught:
        run.send(request)
    if not is_inline:
        assert type(caught.value) is DeadlineRefusedError
        assert 0 < caught.value.retry_after_s < 1
    assert (gated.runs, run.counts) == (0, (0, {"REJECTED": 1}))


@pytest.mark.parametrize("run_ns", [1000, 50 * MS])
def test_a_deadline_that_has_passed_is_refused(harness, gated, run_ns):
    run = harness(run_ns=run_ns)
    request = run.request()
    request.deadline_ns = run.dispatcher.now_ns() - 1
    with pytest.raises(DeadlineExpiredError):
        run.send(request)
    assert gated.runs == 0


def test_one_whose_deadline_can_not_be_kept_any_more_is_told_while_another_still_runs(harness, gated):
    run = harness(run_ns=MS)
    run.work.inline_rows = 0
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    waiting = run.request(2)
    waiting.deadline_ns = run.dispatcher.now_ns() + 60 * MS
    run.send(waiting)
    (outcome,) = run.wait(1)
    assert type(outcome) is DeadlineExpiredError
    gated.release()
    assert run.wait(1)[1] == 1
    assert (gated.runs, run.counts) == (1, (1, {"REJECTED": 1}))


def lacking_a_little(run: Harness) -> Request:
    """One that can be promised its deadline only if the run that has just begun ends 50 ms before its time."""
    request = run.request(2)
    request.deadline_ns = run.dispatcher.now_ns() + 2 * run.times.worst_ns("gated", 0, 1) - 50 * MS
    return request


def test_one_that_lacks_a_little_runs_if_the_one_before_it_ends_early(harness, gated, monkeypatch):
    monkeypatch.setattr(planner, "PATIENCE_NS", 1000 * MS)
    run = harness(run_ns=500 * MS)
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    run.send(lacking_a_little(run))
    assert run.pending() == 1
    gated.release(2)
    assert run.wait(2) == [1, 2]
    assert run.counts == (2, {})


def test_one_that_lacks_a_little_is_refused_in_time_if_the_one_before_it_does_not_end_early(
    harness, gated, monkeypatch
):
    monkeypatch.setattr(planner, "PATIENCE_NS", 200 * MS)
    run = harness(run_ns=500 * MS)
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    run.send(lacking_a_little(run))
    (outcome,) = run.wait(1)
    assert type(outcome) is DeadlineRefusedError
    gated.release()
    assert run.wait(1)[1] == 1
    assert (gated.runs, run.counts) == (1, (1, {"REJECTED": 1}))


def test_requests_that_wait_share_a_run_and_get_their_own_rows(harness, gated):
    run = harness(max_batch=8)
    run.submit(0)
    assert gated.begun.acquire(timeout=10)
    for value, rows in ((1, 1), (2, 3), (3, 4), (4, 1)):
        request = run.request(value, lambda outputs: outputs["y"].copy(), rows)
        request.group = "g"
        run.send(request)
    gated.release(3)
    answers = run.wait(5)[1:]
    assert [answer.shape for answer in answers] == [(1, 4), (3, 4), (4, 4), (1, 4)]
    assert [set(answer.flat) for answer in answers] == [{1}, {2}, {3}, {4}]
    assert (gated.runs, run.statistics.totals.runs, run.statistics.totals.rows) == (3, 3, 10)


def test_one_bad_request_does_not_spoil_the_run_that_it_shared(harness, gated):
    plain = gated.run

    def failing_if_bad() -> Any:
        if 2 in gated._array:
            raise InvalidRequestError("index 7")
        return plain()

    gated.run = failing_if_bad
    run = harness(max_batch=8)
    run.submit(0)
    assert gated.begun.acquire(timeout=10)
    for value in (1, 2, 3):
        request = run.request(value)
        request.group = "g"
        run.send(request)
    gated.release(3)
    outcomes = run.wait(4)
    assert [outcomes[0], outcomes[1], outcomes[3]] == [0, 1, 3]
    assert type(outcomes[2]) is InvalidRequestError


def test_a_request_with_memory_of_its_own_runs_there(harness, gated):
    run = harness()
    gated.release()
    mine = type(gated)()
    mine.release()
    mine.bind("x", (1, 4)).fill(7)
    request = run.request(1)
    request.slot = mine
    run.send(request)
    assert run.wait(1) == [7]
    assert (gated.runs, mine.runs) == (0, 1)


def test_a_lane_that_fails_in_a_way_nobody_foresaw_says_so(harness, gated, caplog):
    run = harness()
    told = threading.Event()
    run.dispatcher.on_failure = told.set
    run.dispatcher._planner.finish = lambda *_: 1 / 0
    gated.release()
    run.submit(1)
    assert told.wait(10)
    assert "a lane failed" in caplog.text
    run.dispatcher._planner._scheduler._state.lanes.out = 0  # which it can't know any more


def test_each_model_has_a_queue_of_its_own_on_the_loops_thread(harness, gated):
    gated.release(3)
    run = harness(run_ns=1000, queue_size=2)
    other = Work(run.engine, ModelStatistics(), ModelPolicy("other", 1, 2))
    other.usual_ns[1] = 1000
    run.loop.do(lambda: run.dispatcher.add(other))
    of_other = run.request(7)
    of_other.model = "other"

    def submit_all() -> None:
        for value in (1, 2):
            run.dispatcher.submit(run.request(value))
        with pytest.raises(QueueFullError):
            run.dispatcher.submit(run.request(3))
        run.dispatcher.submit(of_other)

    run.loop.do(submit_all)
    assert sorted(run.wait(3)) == [1, 2, 7]


def test_what_is_past_its_deadline_when_its_turn_on_the_loops_thread_comes_is_not_run(harness, gated):
    now = [0]
    run = harness(run_ns=1000, clock=lambda: now[0])
    request = run.request(1)
    request.deadline_ns = 5000

    def submit_and_wait() -> None:
        run.dispatcher.submit(request)
        now[0] = 6000

    run.loop.do(submit_and_wait)
    (outcome,) = run.wait(1)
    assert (type(outcome), gated.runs) == (DeadlineExpiredError, 0)


def test_runs_that_were_made_again_one_by_one_are_counted_as_they_were_made(harness, gated):
    plain, calls = gated.run, []

    def failing_together() -> Any:
        calls.append(len(gated._array))
        if len(gated._array) > 1:
            raise BackendError("together")
        return plain()

    gated.run = failing_together
    run = harness(max_batch=8)
    run.submit(0)
    assert gated.begun.acquire(timeout=10)
    for value in (1, 2, 3):
        request = run.request(value)
        request.group = "g"
        run.send(request)
    gated.release(4)
    assert run.wait(4) == [0, 1, 2, 3]
    assert (calls, run.statistics.totals.runs, run.statistics.totals.success) == ([1, 3, 1, 1, 1], 4, 4)


def test_an_answer_that_can_not_be_given_out_does_not_keep_others_from_theirs(harness, gated, caplog):
    gated.release(2)
    run = harness(run_ns=1000)
    bad, good = run.request(1), run.request(2)
    bad.emit = lambda outcome: 1 / 0
    run.loop.do(lambda: [run.dispatcher.submit(each) for each in (bad, good)])
    assert run.wait(1) == [2]
    assert "an answer can't be given out" in caplog.text


def delivering(run: Harness, value: float) -> tuple[Request, threading.Event]:
    """A request whose answer is sent by the lane, and what is set when it is."""
    request, sent = run.request(value), threading.Event()

    def deliver(_: Any) -> Any:
        sent.set()
        return DELIVERED

    request.deliver = deliver
    return request, sent


def test_a_delivered_answer_is_emitted_soon_if_nobody_asks(harness, gated):
    run = harness()
    for _ in range(3):
        request, sent = delivering(run, 1)
        run.send(request)
        gated.release()
        assert sent.wait(10)
        run.wait(1)
    assert run.outcomes == [DELIVERED] * 3


def test_what_is_not_delivered_is_emitted_behind_what_is(harness, gated, monkeypatch):
    monkeypatch.setattr("edge_runtime.server.outcomes._PERIOD_S", 1000)
    run = harness()
    request, sent = delivering(run, 1)
    run.send(request)
    gated.release()
    assert sent.wait(10)
    assert run.outcomes == []
    assert run.counts == (1, {})
    run.submit(2)
    gated.release()
    assert run.wait(2) == [DELIVERED, 2]


def test_what_was_delivered_before_a_close_is_emitted_by_it(harness, gated, monkeypatch):
    monkeypatch.setattr("edge_runtime.server.outcomes._PERIOD_S", 1000)
    run = harness()
    requests = [delivering(run, value) for value in range(2)]
    for request, _ in requests:
        run.send(request)
    gated.release(2)
    assert requests[0][1].wait(10)
    assert run.close()
    assert len(run.wait(2)) == 2
    assert run.outcomes[0] is DELIVERED


def test_a_model_is_removed_once_its_requests_have_ended(harness, gated):
    run = harness()
    run.submit(1, 2)
    removing = asyncio.run_coroutine_threadsafe(run.dispatcher.remove("gated"), run.loop._loop)
    gated.release()
    assert gated.begun.acquire(timeout=10)
    assert gated.begun.acquire(timeout=10)
    assert not removing.done()
    gated.release()
    removing.result(10)
    assert run.wait(2) == [1, 2]


def test_an_answer_that_was_delivered_past_the_loop_is_emitted_after_the_removal_too(harness, gated):
    run = harness()
    request = run.request(1)
    request.deliver = lambda outcome: DELIVERED
    gated.release()
    run.send(request)
    run.loop.do(lambda: run.dispatcher.remove("gated"))
    assert run.wait(1) == [DELIVERED]


def test_a_model_is_removed_once_what_the_loops_thread_put_off_has_ended_too(harness, gated):
    now = [0]
    run = harness(run_ns=1000, clock=lambda: now[0])

    def slow(outputs: Any) -> Any:
        now[0] += 2 * MS  # so long that the rest is put off
        return outputs["y"][0, 0]

    first, late = run.request(1, slow), run.request(2)
    first.deadline_ns, late.deadline_ns = MS // 2, MS

    async def removed() -> None:
        run.dispatcher.submit(first)
        run.dispatcher.submit(late)
        await run.dispatcher.remove("gated")

    gated.release()
    run.loop.do(removed)
    answer, refusal = run.wait(2)
    assert answer == 1
    assert isinstance(refusal, DeadlineExpiredError)
