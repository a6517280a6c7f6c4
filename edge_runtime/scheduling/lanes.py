"""What has been handed out, and when each lane will be free."""

from __future__ import annotations

from typing import List, Tuple

from edge_runtime.scheduling.job import Job
from edge_runtime.scheduling.request import Request


class Dispatch:
    """One run that the caller starts now and reports to `Scheduler.finish`.

    Attributes:
        requests: whose inputs share the run, along axis 0 in this order.
        rows: how many rows they have together.
        segment: which plan of the model's chain runs, 0 if it has one.
        model: its name.
        start_ns: when it was handed out.
    """

    __slots__ = ("_job", "_lane", "_run_ns", "model", "requests", "rows", "segment", "start_ns")

    def __init__(self, job: Job, lane: int, run_ns: int, start_ns: int) -> None:
        self.requests: Tuple[Request, ...] = job.requests
        self.rows = job.rows
        self.segment = job.segment
        self.model = job.model.name
        self.start_ns = start_ns
        self._job = job
        self._lane = lane
        self._run_ns = run_ns

    def __repr__(self) -> str:
        return f"Dispatch({self.model!r}, rows={self.rows}, segment={self.segment}, start_ns={self.start_ns})"


class Lanes:
    """Runs that go on in parallel, one a lane; what is handed out beyond that runs after those before it.

    Attributes:
        free: when each lane has done all that it was handed, by worst times. In the past: it overruns, or is idle.
        out: how many runs are handed out.
        chains: how many of them aren't their chain's last segment.
    """

    __slots__ = ("_ended", "_queues", "chains", "depth", "free", "out")

    def __init__(self, lanes: int, depth: int) -> None:
        self.depth = depth
        self.free = [0] * lanes
        self.out = 0
        self.chains = 0
        self._queues: List[List[Dispatch]] = [[] for _ in range(lanes)]
        self._ended = [-1] * lanes

    def open(self) -> List[int]:
        """The lanes that may take a run now: those that are idle, else the one that is free first, if any may."""
        if self.out >= self.depth:
            return []
        if len(self.free) == 1:
            return [0]
        idle = [lane for lane, queue in enumerate(self._queues) if not queue]
        return idle or [min(range(len(self.free)), key=self.free.__getitem__)]

    def is_busy(self, lane: int) -> bool:
        """Whether a run was handed to a lane that hasn't finished."""
        return bool(self._queues[lane])

    def hand_out(self, job: Job, lane: int, now_ns: int) -> Dispatch:
        """Gives a lane a run."""
        run_ns = job.cost_ns if job.model.segments == 1 else job.model.segment_ns(job.rows, job.segment)
        dispatch = Dispatch(job, lane, run_ns, now_ns)
        self._queues[lane].append(dispatch)
        free_ns = self.free[lane]
        self.free[lane] = (free_ns if free_ns > now_ns else now_ns) + run_ns
        self.out += 1
        self.chains += job.segment + 1 < job.model.segments
        return dispatch

    def finish(self, dispatch: Dispatch, now_ns: int) -> Tuple[Job, int]:
        """Takes a run back; gives what ran, and how long it took."""
        lane = dispatch._lane
        queue = self._queues[lane]
        queue.remove(dispatch)
        self.out -= 1
        self.chains -= dispatch.segment + 1 < dispatch._job.model.segments
        run_ns = now_ns - max(dispatch.start_ns, self._ended[lane])
        self._ended[lane] = now_ns
        if not queue and self.out >= len(self.free):
            self._move_to(lane, now_ns)
        self.free[lane] = now_ns + sum([each._run_ns for each in queue]) if queue else now_ns
        return dispatch._job, run_ns

    def _move_to(self, lane: int, now_ns: int) -> None:
        """Lets an idle lane have the run that waits longest for another one."""
        behind = [dispatch for queue in self._queues for dispatch in queue[1:]]
        if behind:
            first = min(behind, key=_start_ns)
            queue = self._queues[first._lane]
            queue.remove(first)
            self.free[first._lane] = max(now_ns, self.free[first._lane] - first._run_ns)
            first._lane = lane
            self._queues[lane].append(first)

    def running(self, now_ns: int) -> List[Tuple[int, Job]]:
        """All that is handed out, with when it will end at worst."""
        found: List[Tuple[int, Job]] = []
        for lane, queue in enumerate(self._queues):
            end_ns = max(now_ns, self.free[lane])
            for dispatch in reversed(queue):
                found.append((end_ns, dispatch._job))
                end_ns = max(now_ns, end_ns - dispatch._run_ns)
        return found


def _start_ns(dispatch: Dispatch) -> int:
    return dispatch.start_ns
