"""Threads that run one model's requests, one thread a slot of its engine."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

import numpy as np

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import BackendError, EdgeRuntimeError, RequestError, ServerUnavailableError
from edge_runtime.scheduling.fifo import FirstComeQueue
from edge_runtime.scheduling.request import Request
from edge_runtime.server.statistics import ModelStatistics, RunTimes

logger = logging.getLogger(__name__)

Clock = Callable[[], int]


class Executor:
    """Takes requests from any thread and runs them in order of arrival.

    Each outcome is counted before it is emitted, all but a `RequestError`: that one the transport counts.
    """

    def __init__(
        self, engine: Engine, statistics: ModelStatistics, queue_size: int, clock: Clock = time.perf_counter_ns
    ) -> None:
        self._engine = engine
        self._statistics = statistics
        self._clock = clock
        self._queue = FirstComeQueue(queue_size)
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{engine.info.name}-{index}", daemon=True)
            for index in range(engine.slot_count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pending(self) -> int:
        """Requests that wait and don't run yet."""
        return len(self._queue)

    def now_ns(self) -> int:
        """The clock that requests' arrivals are read from."""
        return self._clock()

    def submit(self, request: Request) -> None:
        """Takes a request in.

        Raises:
            ServerUnavailableError: the queue is full, or the executor is closing.
        """
        try:
            with self._changed:
                self._queue.admit(request)
                self._changed.notify()
        except ServerUnavailableError:
            self._statistics.add_failure("REJECTED", self._clock() - request.arrival_ns)
            raise

    def cancel(self, request: Request) -> None:
        """Says that nobody waits for a request any more: unless it runs already, it won't."""
        with self._changed:
            is_withdrawn = self._queue.withdraw(request)
        if is_withdrawn:
            self._statistics.add_failure("CANCELED", self._clock() - request.arrival_ns)

    def close(self, timeout_s: float) -> bool:
        """Gives up what waits, lets what runs finish; False if a run was still under way after `timeout_s`."""
        with self._changed:
            self._queue.close()
            self._is_closed = True
            waiting = iter(self._queue.next, None)
            for request in waiting:
                self._give_up(request, ServerUnavailableError("the server is shutting down"), "REJECTED")
            self._changed.notify_all()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            with self._changed:
                request = self._queue.next()
                while request is None and not self._is_closed:
                    self._changed.wait()
                    request = self._queue.next()
            if request is None:
                return
            try:
                self._run(request)
            except Exception as error:  # the top frame of this thread: the request must hear of it, the thread lives on
                logger.exception("model %s: a run failed", self._engine.info.name)
                self._give_up(request, BackendError(f"unexpected {type(error).__name__}"), "BACKEND")

    def _run(self, request: Request) -> None:
        start_ns = self._clock()
        try:
            with self._engine.slot() as slot:
                for name, value in request.inputs.items():
                    np.copyto(slot.bind(name, value.shape), value)
                input_done_ns = self._clock()
                outputs = slot.run()
                infer_done_ns = self._clock()
                answer = request.encode(outputs)
        except RequestError as error:
            request.emit(error)
        except EdgeRuntimeError as error:
            logger.error("model %s: %s", self._engine.info.name, error)
            self._give_up(request, error, "BACKEND")
        else:
            times = RunTimes(request.arrival_ns, start_ns, input_done_ns, infer_done_ns, self._clock())
            self._statistics.add_success(times, request.rows, time.time_ns() // 1_000_000)
            request.emit(answer)

    def _give_up(self, request: Request, error: EdgeRuntimeError, reason: str) -> None:
        self._statistics.add_failure(reason, self._clock() - request.arrival_ns)
        request.emit(error)
