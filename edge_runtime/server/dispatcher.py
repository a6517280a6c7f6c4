"""What runs on one accelerator, and where: short models on the loop's thread, the others in its lanes' threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import Callable, Dict, List, Sequence

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.scheduling.lanes import Dispatch
from edge_runtime.scheduling.request import Request
from edge_runtime.scheduling.service_times import ServiceTimes
from edge_runtime.server.alarm import Alarm
from edge_runtime.server.lane_threads import LaneThreads
from edge_runtime.server.outcomes import Outcomes
from edge_runtime.server.planner import GivenUp, Planner, expired
from edge_runtime.server.run import Run
from edge_runtime.server.tick import Tick, gave_way
from edge_runtime.server.work import Work

logger = logging.getLogger(__name__)

Clock = Callable[[], int]

_TICK_NS = 1_000_000
_SAMPLED = 16
_JOIN_S = 1.0


class Dispatcher:
    """Takes checked requests on the loop's thread, runs them by deadline, and emits every outcome on that thread.

    Each outcome is counted before it is emitted, all but a `RequestError`: that one the transport counts. Outcomes of
    answers that are delivered already wake nobody: they are emitted a little later. `is_shared`
    says that the loop's thread may run beside the lanes (a CPU's cores), and needn't wait for one to be free. `now_ns`
    is the clock that requests' arrivals and deadlines are read from. `on_failure` is called on the loop's thread if a
    lane failed in a way that nobody foresaw, after which its requests may never be answered, or if a run lost the GPU.
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
        self.on_failure: Callable[[], object] | None = None
        self.now_ns = self._clock = clock
        self._planner = Planner(times, lanes, depth)
        self._is_shared = is_shared
        self._loop = asyncio.get_running_loop()
        self._work: Dict[str, Work] = {}
        self._chains: Dict[Request, Run] = {}
        self._tick = Tick(lambda: self._loop.call_soon(self._run_tick), partial(_cost_ns, self._planner))
        # Requests whose deadline can't be kept any more are told so at once.
        self._alarm = Alarm(
            clock, self._planner.next_expiry_ns, lambda: self._emit(None, self._planner.take_given_up(clock()))
        )
        self._outcomes = Outcomes(self._loop, self._emit, lambda: self._planner.is_idle)
        self._is_closed = False
        self._has_settled = asyncio.Event()
        self._threads = LaneThreads(depth, self._run_in_lane)

    def add(self, work: Work) -> None:
        """Makes a model known whose times have been measured, if they could be."""
        self._planner.register(work.policy)
        self._work[work.name] = work
        work.place()

    async def remove(self, name: str) -> None:
        """Forgets a model that takes no requests any more, once none of its is under way."""
        while self._tick.holds(name) or not self._planner.remove(name):
            self._has_settled.clear()
            await self._has_settled.wait()
        del self._work[name]

    def pending(self, name: str) -> int:
        """Requests of a model that wait and don't run yet."""
        return self._planner.waiting(name) + self._tick.waiting(name)

    def longest_ns(self, name: str) -> int:
        """What the longest run of a model is planned with, by the sizes that were run so far; 0: unknown."""
        work = self._work[name]
        return work.policy.segments * max((self._planner.worst_ns(name, rows) for rows in work.usual_ns), default=0)

    def relearn(self) -> None:
        """Says that runs take another time from now on, as after a change of power mode or temperature."""
        self._planner.relearn()
        for work in self._work.values():
            work.cost_ns.clear()

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
                displaced = self._tick.gather(work, request, self._clock())
                if displaced is not None:
                    self._loop.call_soon(work.give_up, displaced, gave_way(), self._clock())
            else:
                self._admit(work, request)
        except ServerUnavailableError:
            if request.is_counted:
                work.statistics.add_failure("REJECTED", self._clock() - request.arrival_ns)
            raise

    def runs_here(self, request: Request) -> bool:
        """Whether a request would run on the loop's thread, whatever the lanes do."""
        return self._is_shared and request.rows <= self._work[request.model].inline_rows and request.is_light

    def cancel(self, request: Request) -> bool:
        """Says that nobody waits for a request any more; True if it won't run, False if it does already."""
        if not self._planner.withdraw(request) and not self._tick.remove(request):
            return False
        self._work[request.model].statistics.add_failure("CANCELED", self._clock() - request.arrival_ns)
        self._has_settled.set()
        return True

    async def close(self, timeout_s: float) -> bool:
        """Gives up what waits, lets what runs finish; False if a run was still under way after `timeout_s`."""

        async def until_idle() -> None:
            while not self._planner.is_idle:
                self._has_settled.clear()
                await self._has_settled.wait()

        self._is_closed = True
        self._outcomes.hurry()
        for request in self._planner.close() + self._tick.clear():
            error = ServerUnavailableError("the server is shutting down; ask another one")
            self._work[request.model].give_up(request, error, self._clock())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(until_idle(), timeout_s)
        return await self._loop.run_in_executor(None, self._threads.close, _JOIN_S if self._planner.is_idle else 0.0)

    def _run_tick(self) -> None:
        """Runs what was gathered, on the loop's thread; others need that too, so after 1 ms the rest has to wait."""
        begun_ns = self._clock()
        entries, late = self._tick.take(begun_ns)
        self._emit(None, [(request, expired()) for request in late])
        for index, (work, requests, dispatch) in enumerate(entries):
            slot = None if requests[0].slot is not None else work.engine.try_acquire()
            if slot is None and requests[0].slot is None:  # the pool's are all in the lanes
                self._to_lanes(work, requests, dispatch)
                continue
            rows = requests[0].rows if len(requests) == 1 else sum([request.rows for request in requests])
            run = Run(work.engine, requests, rows, self._clock)
            run.segment(0, True, slot)
            work.count(run)
            if dispatch is not None:
                following, given_up = self._planner.finish(dispatch, self._clock(), run.is_failed)
                for other in following:
                    self._threads.put(other)
                self._emit(run, given_up)
            else:
                work.inline_runs += 1
                if work.inline_runs % _SAMPLED == 0 and not run.is_failed:
                    self._planner.observe(work.name, rows, run.output_done_ns - run.start_ns)
                    work.cost_ns.clear()
                self._emit(run, ())
            if run.has_lost_device:
                _call(self._loop, self.on_failure)
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
        dispatch = self._planner.admit(request, self._clock())
        if request.deliver is not None:
            self._outcomes.expect()
        if dispatch is None or request not in dispatch.requests:
            self._alarm.set()
        if dispatch is None:
            return
        if dispatch.requests[0] is request and request.rows <= work.inline_rows and request.is_light:
            self._tick.put((work, dispatch.requests, dispatch))
        else:
            self._threads.put(dispatch)

    def _run_in_lane(self, dispatch: Dispatch) -> List[Dispatch]:
        """Runs what was handed out, in a lane's thread; gives what may start now."""
        try:
            first = dispatch.requests[0]
            work = self._work[first.model]
            run = self._chains.pop(first, None) or Run(work.engine, dispatch.requests, dispatch.rows, self._clock)
            goes_on = run.segment(dispatch.segment, dispatch.segment == work.policy.segments - 1)
            is_delivered = False
            if goes_on:
                self._chains[first] = run
            else:
                work.count(run)
                is_delivered = run.deliver()
            following, given_up = self._planner.finish(dispatch, self._clock(), run.is_failed)
            self._outcomes.report(None if goes_on else run, given_up, is_delivered)
            if run.has_lost_device:
                _call(self._loop, self.on_failure)
        except Exception:  # the top frame of a lane: what it leaves behind isn't known, so its owner must end it all
            logger.exception("a lane failed")
            _call(self._loop, self.on_failure)
            return []
        return following

    def _emit(self, run: Run | None, given_up: Sequence[GivenUp]) -> None:
        if run is not None:
            work = self._work.get(run.requests[0].model)  # which may be removed before what was delivered is emitted
            if work is not None and work.took(run) and not self._planner.waiting(work.name):
                work.place()
            run.emit()
        for request, error in given_up:
            self._work[request.model].give_up(request, error, self._clock())
        self._has_settled.set()


def _cost_ns(planner: Planner, work: Work, rows: int) -> int:
    """What a run takes at worst."""
    if rows not in work.cost_ns:
        work.cost_ns[rows] = planner.worst_ns(work.name, rows)
    return work.cost_ns[rows]


def _call(loop: asyncio.AbstractEventLoop, on_failure: Callable[[], object] | None) -> None:
    """Lets the owner end it all, behind the outcomes so far."""
    if on_failure is not None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(on_failure)
