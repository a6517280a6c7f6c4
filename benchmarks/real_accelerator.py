"""An accelerator in real time: plays a trace by the clock, and runs what a scheduler hands out on its own thread."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Sequence

from virtual_accelerator import Outcome, Trace

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.scheduling.request import Request


class RealAccelerator:
    """One lane. `run` does a dispatch's work; times are nanoseconds from when the trace begins."""

    def __init__(self, scheduler: Any, run: Callable[[Any], None]) -> None:
        self._scheduler = scheduler
        self._run = run
        self._changed = threading.Condition()
        self._is_over = False
        self._trace = Trace()
        self._begun_ns = 0

    def run(self, requests: Sequence[Request]) -> Trace:
        """Plays a trace, sorted by arrival, to its end."""
        lane = threading.Thread(target=self._work)
        self._begun_ns = time.perf_counter_ns()
        lane.start()
        for request in requests:
            left_s = (request.arrival_ns - self._now_ns()) / 1e9
            if left_s > 0:
                time.sleep(left_s)
            self._offer(request)
        with self._changed:
            self._is_over = True
            self._changed.notify()
        lane.join()
        self._trace.end_ns = self._now_ns()
        return self._trace

    def _now_ns(self) -> int:
        return time.perf_counter_ns() - self._begun_ns

    def _offer(self, request: Request) -> None:
        outcome = Outcome(request)
        with self._changed:
            self._trace.outcomes[request] = outcome
            try:
                self._scheduler.admit(request, self._now_ns())
            except ServerUnavailableError as error:
                outcome.refused_ns, outcome.error = self._now_ns(), error
            self._give_up()
            self._changed.notify()

    def _next(self) -> Any:
        """What runs next; None when all is done."""
        with self._changed:
            while True:
                dispatch = self._scheduler.next(self._now_ns())
                self._give_up()
                if dispatch is not None or self._is_over:
                    return dispatch
                self._changed.wait()

    def _give_up(self) -> None:
        now_ns = self._now_ns()
        for request, error in self._scheduler.take_refused(now_ns):
            outcome = self._trace.outcomes[request]
            outcome.refused_ns, outcome.error = now_ns, error
        for request in self._scheduler.take_expired(now_ns):
            self._trace.outcomes[request].expired_ns = now_ns

    def _work(self) -> None:
        while True:
            dispatch = self._next()
            if dispatch is None:
                return
            self._run(dispatch)
            with self._changed:
                end_ns = self._now_ns()
                for request in dispatch.requests:
                    self._trace.outcomes[request].answered_ns = end_ns
                self._give_up()
                self._scheduler.finish(dispatch, end_ns)
