from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from functools import partial
from typing import Any, Callable

import numpy as np
import pytest

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import BackendError, InvalidRequestError, NotJsonError, QueueFullError, ServerUnavailableError
from edge_runtime.scheduling.request import Request
from edge_runtime.server.executor import Executor
from edge_runtime.server.statistics import ModelStatistics


class Harness:
    """An executor, its counters, and outcomes in the order in which they were emitted."""

    def __init__(self, engine: Engine, queue_size: int = 8, **options: Any) -> None:
        self.statistics = ModelStatistics()
        self.executor = Executor(engine, self.statistics, queue_size, **options)
        self.outcomes: list[Any] = []
        self.counts_when_emitted: list[tuple[int, dict[str, int]]] = []
        self._emitted = threading.Semaphore(0)

    def request(self, value: float = 0.0, encode: Callable[[Any], Any] | None = None) -> Request:
        feeds = {"x": np.full((1, 4), value, np.float32)}
        return Request(feeds, encode or (lambda outputs: outputs["y"][0, 0]), self._emit, arrival_ns=0)

    def _emit(self, outcome: Any) -> None:
        self.outcomes.append(outcome)
        self.counts_when_emitted.append(self.counts)
        self._emitted.release()

    def submit(self, *values: float) -> list[Request]:
        requests = [self.request(value) for value in values]
        for request in requests:
            self.executor.submit(request)
        return requests

    def wait(self, outcomes: int) -> list[Any]:
        for _ in range(outcomes):
            assert self._emitted.acquire(timeout=10)
        return self.outcomes

    @property
    def counts(self) -> tuple[int, dict[str, int]]:
        totals = self.statistics.totals()
        return totals.success, {reason: count for reason, count in totals.failures.items() if count}


@pytest.fixture
def harness(gated):
    made: list[Harness] = []

    def make(engine: Engine | None = None, **options: Any) -> Harness:
        made.append(Harness(engine or gated.engine, **options))
        return made[-1]

    yield make
    gated.release(100)
    assert all(each.executor.close(10) for each in made)


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
    return [record for record in caplog.records if record.name == "edge_runtime.server.executor"]


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
    assert run.executor.pending == 2
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
    run.executor.cancel(gone)
    run.submit(3)
    gated.release(2)
    assert run.wait(2) == [1, 3]
    assert (gated.runs, run.counts) == (2, (2, {"CANCELED": 1}))


def test_a_request_cancelled_while_it_runs_is_finished_and_counted_once(harness, gated):
    run = harness()
    (running,) = run.submit(1)
    assert gated.begun.acquire(timeout=10)
    run.executor.cancel(running)
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

    run.executor.submit(run.request(encode=encode))
    gated.release()
    assert (type(run.wait(1)[0]), run.counts) == (NotJsonError, (0, {}))


def test_outcomes_are_counted_before_anybody_hears_of_them(harness, gated):
    run = harness(failing_first(gated, BackendError("x")))
    run.submit(1, 2)
    gated.release()
    run.wait(2)
    assert run.counts_when_emitted == [(0, {"BACKEND": 1}), (1, {"BACKEND": 1})]


def test_the_slot_is_held_while_the_answer_is_encoded_and_free_when_it_is_emitted(harness, gated):
    run = harness()
    idle: list[bool] = []
    request = run.request(encode=lambda outputs: idle.append(gated.engine._idle.empty()))

    def emit(outcome: Any) -> None:
        idle.append(gated.engine._idle.empty())
        request.emit(outcome)

    run.executor.submit(dataclasses.replace(request, emit=emit))
    gated.release()
    run.wait(1)
    assert idle == [True, False]


def test_as_many_run_at_once_as_there_are_slots(harness, gated):
    gated.engine = Engine(gated.engine.info, gated.engine.signature, lambda: gated, slots=3)
    run = harness(gated.engine)
    run.submit(1, 2, 3, 4)
    assert all(gated.begun.acquire(timeout=10) for _ in range(3))
    assert run.executor.pending == 1
    gated.release(4)
    run.wait(4)


def test_durations_are_those_of_the_clock(harness, gated):
    ticks = itertools.count(1000, 1000)
    run = harness(clock=lambda: next(ticks))
    gated.release()
    run.submit(1)
    run.wait(1)
    totals = run.statistics.totals()
    parts = {"queue": 1000, "compute_input": 1000, "compute_infer": 1000, "compute_output": 1000}
    assert (totals.success_ns, totals.parts_ns) == (4000, parts)


def test_close_gives_up_what_waits_and_lets_what_runs_finish(harness, gated):
    run = harness()
    run.submit(1)
    assert gated.begun.acquire(timeout=10)
    run.submit(2, 3)
    closing = threading.Thread(target=run.executor.close, args=(10,))
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
    assert not run.executor.close(0.01)
    gated.release()
    assert run.executor.close(10)


def test_many_threads_get_their_own_answers(harness, gated):
    gated.release(400)
    run = harness(queue_size=400)
    answers: dict[float, Any] = {}

    def send(first: int) -> None:
        for value in range(first, first + 50):
            run.executor.submit(dataclasses.replace(run.request(value), emit=partial(answers.__setitem__, value)))

    threads = [threading.Thread(target=send, args=(first,)) for first in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.submit(-1)
    gated.release()
    run.wait(1)
    assert (answers, run.counts) == ({value: value for value in range(400)}, (401, {}))


def test_a_request_error_of_the_engine_is_told_as_it_is(harness, gated):
    run = harness(failing_first(gated, InvalidRequestError("shape")))
    run.submit(1)
    assert str(run.wait(1)[0]) == "shape"
