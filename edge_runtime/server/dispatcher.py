"""What runs on one accelerator, and where: short models on the loop's thread, the others in its lanes' threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Callable, Dict, List, Sequence, Tuple

from edge_runtime.errors import DeadlineExpiredError, ServerUnavailableError
from edge_runtime.scheduling.lanes import Dispatch
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.scheduler import Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.server.lane_threads import LaneThreads
from edge_runtime.server.run import Run
from edge_runtime.server.tick import Tick
from edge_runtime.server.work import Work

Clock = Callable[[], int]

_TICK_NS = 1_000_000
_SAMPLED = 16


class Dispatcher:
    """Takes checked requests on the loop's thread, runs them by deadline, and emits every outcome on that thread.

    Each outcome is counted before it is emitted, all but a `RequestError`: that one the transport counts. `is_shared`
    says that the loop's thread may run beside the lanes (a CPU's cores), and needn't wait for one to be free. `now_ns`
    is the clock that requests' arrivals and deadlines are read from.
    """

    def __init__(
        self,
        times: ServiceTimes,
        lanes: int,
        depth: int,
        is_shared: bool,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self.times = times
        self._scheduler = Scheduler(times, lanes, depth)
        self._lock = threading.Lock()  # holds the scheduler
        self._is_shared = is_shared
        self.now_ns = self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._work: Dict[str, Work] = {}
        self._chains: Dict[Request, Run] = {}
        self._tick = Tick(lambda: self._loop.call_soon(self._run_tick))
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._threads = LaneThreads(depth, self._run_in_lane)

    def add(self, work: Work) -> None:
        """Makes a model known whose times have been measured, if they could be."""
        with self._lock:
            self._scheduler.register(work.policy)
        self._work[work.name] = work
        work.place()

    def pending(self, name: str) -> int:
        """Requests of a model that wait and don't run yet."""
        return self._scheduler.waiting(name) + self._tick.waiting(name)

    def relearn(self) -> None:
        """Says that runs take another time from now on, as after a change of power mode or temperature."""
        with self._lock:
            self.times.relearn()

    def submit(self, request: Request) -> None:
        """Takes a request in.

        Raises:
            ServerUnavailableError: its queue is full, its deadline can't be kept, or the server is closing.
        """
        work = self._work[request.model]
        try:
            if self._is_closed:
                raise ServerUnavailableError("the server is shutting down; ask another one, or again later")
            if self.runs_here(request):
                cost_ns = self.times.worst_ns(work.name, 0, request.rows) or 0
                self._tick.gather(work, request, cost_ns, self._clock())
            else:
                self._admit(work, request)
        except ServerUnavailableError:
            work.statistics.add_failure("REJECTED", self._clock() - request.arrival_ns)
            raise

    def runs_here(self, request: Request) -> bool:
        """Whether a request would run on the loop's thread, whatever the lanes do."""
        return self._is_shared and request.rows <= self._work[request.model].inline_rows and request.is_light

    def cancel(self, request: Request) -> bool:
        """Says that nobody waits for a request any more; True if it won't run, False if it does already."""
        with self._lock:
            is_withdrawn = self._scheduler.withdraw(request)
        if not is_withdrawn and not self._tick.remove(request):
            return False
        self._work[request.model].statistics.add_failure("CANCELED", self._clock() - request.arrival_ns)
        return True

    async def close(self, timeout_s: float) -> bool:
        """Gives up what waits, lets what runs finish; False if a run was still under way after `timeout_s`."""
        self._is_closed = True
        with self._lock:
            waiting = self._scheduler.close()
        for request in waiting + self._tick.clear():
            error = ServerUnavailableError("the server is shutting down; ask another one")
            self._work[request.model].give_up(request, error, self._clock())
        return await self._loop.run_in_executor(None, self._threads.close, timeout_s)

    def _run_tick(self) -> None:
        """Runs what was gathered, on the loop's thread; others need that too, so after 1 ms the rest has to wait."""
        entries, clock = self._tick.take(), self._clock
        begun_ns = clock()
        for index, (work, requests, dispatch) in enumerate(entries):
            slot = None if requests[0].slot is not None else work.engine.try_acquire()
            if slot is None and requests[0].slot is None:  # the pool's are all in the lanes
                self._to_lanes(work, requests, dispatch)
                continue
            rows = requests[0].rows if len(requests) == 1 else sum([request.rows for request in requests])
            run = Run(work.engine, requests, rows, clock)
            run.segment(0, True, slot)
            work.count(run)
            if dispatch is not None:
                following, expired = self._next(dispatch, run)
                if following is not None:
                    self._threads.put(following)
                self._settle(run, expired)
            else:
                work.inline_runs += 1
                if work.inline_runs % _SAMPLED == 0 and not run.is_failed:
                    self.times.observe(work.name, 0, rows, run.output_done_ns - run.start_ns)
                self._settle(run, ())
            if run.output_done_ns - begun_ns > _TICK_NS and index + 1 < len(entries):
                self._tick.put_back(entries[index + 1 :])
                return

    def _to_lanes(self, work: Work, requests: Sequence[Request], dispatch: Dispatch | None) -> None:
        if dispatch is not None:
            self._threads.put(dispatch)
            return
        for request in requests:
            try:
                self._admit(work, request)
            except ServerUnavailableError as error:
                work.give_up(request, error, self._clock())

    def _admit(self, work: Work, request: Request) -> None:
        now_ns = self._clock()
        with self._lock:
            self._scheduler.admit(request, now_ns)
            dispatch = self._scheduler.next(now_ns)
        if dispatch is None:
            self._watch_deadlines()
        elif dispatch.requests[0] is request and request.rows <= work.inline_rows and request.is_light:
            self._tick.put((work, dispatch.requests, dispatch))
        else:
            self._threads.put(dispatch)

    def _run_in_lane(self, dispatch: Dispatch) -> Dispatch | None:
        """Runs what was handed out, in a lane's thread; gives what that runs next."""
        first = dispatch.requests[0]
        work = self._work[first.model]
        run = self._chains.pop(first, None) or Run(work.engine, dispatch.requests, dispatch.rows, self._clock)
        goes_on = run.segment(dispatch.segment, dispatch.segment == work.policy.segments - 1)
        if goes_on:
            self._chains[first] = run
        else:
            work.count(run)
            run.deliver()
        following, expired = self._next(dispatch, run)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle, None if goes_on else run, expired)
        return following

    def _next(self, dispatch: Dispatch, run: Run) -> Tuple[Dispatch | None, List[Request]]:
        """What the thread that made a run may run next, and what has expired; other free lanes get theirs."""
        now_ns = self._clock()
        with self._lock:
            self._scheduler.finish(dispatch, now_ns, failed=run.is_failed)
            expired = self._scheduler.take_expired(now_ns)
            following = self._scheduler.next(now_ns)
            for other in iter(lambda: self._scheduler.next(now_ns), None):
                self._threads.put(other)
        return following, expired

    def _settle(self, run: Run | None, expired: Sequence[Request]) -> None:
        if run is not None:
            work = self._work[run.requests[0].model]
            if work.took(run) and not self._scheduler.waiting(work.name):
                work.place()
            run.emit()
        for request in expired:
            error = DeadlineExpiredError("the deadline can't be kept any more; the request wasn't run")
            self._work[request.model].give_up(request, error, self._clock())

    def _watch_deadlines(self) -> None:
        """Sees to it that a request whose deadline can't be kept any more is told so at once."""
        with self._lock:
            expiry_ns = self._scheduler.next_expiry_ns()
        if expiry_ns is None:
            return
        at = self._loop.time() + max(0, expiry_ns - self._clock()) / 1e9
        if self._timer is None or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        with self._lock:
            expired = self._scheduler.take_expired(self._clock())
        self._settle(None, expired)
        self._watch_deadlines()
