"""What one client of the lane has open: regions, openings, and the runs that are under way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Hashable, Protocol, Set

from edge_runtime.errors import EdgeRuntimeError, InvalidRequestError, RequestError, TooLargeError, UnknownNameError
from edge_runtime.scheduling.request import DELIVERED, Request
from edge_runtime.server.direct_socket import BROKEN
from edge_runtime.server.lane_opening import Opening
from edge_runtime.server.lane_region import Frame, LaneModel, MemoryBudget, Region
from edge_runtime.wire import lane as wire


@dataclass(frozen=True)
class LaneLimits:
    """What one connection may have open: regions, frames in each, and bytes in all."""

    regions: int = 16
    frames: int = 64
    nbytes: int = 256 << 20


class LaneModels(Protocol):
    """The served models."""

    def find(self, name: str, version: str = "") -> LaneModel:
        """The model of that name; raises UnknownNameError."""


class Answer(Protocol):
    """Sends a message, with a descriptor that is the sender's from then on."""

    def __call__(self, message: bytes, descriptor: int | None = None) -> None:
        """Any time until the connection is lost."""


class Direct(Protocol):
    """Sends past the loop."""

    def offer(self, owner: object) -> bool:
        """Whether `owner` may send one message so; asked on the loop's thread."""

    def send(self, owner: object, message: bytes) -> Any:
        """Sends a message, on any thread; gives what `DirectSocket.deliver` does."""

    def take_sent(self, owner: object = None) -> Any:
        """The owner whose message was sent, if that wasn't known yet; only `owner`, if one is given."""

    def abort(self) -> None:
        """Drops the connection."""


class Holdings:
    """All that ends with a connection; used on the loop's thread."""

    def __init__(
        self, models: LaneModels, limits: LaneLimits, budget: MemoryBudget, answer: Answer, direct: Direct
    ) -> None:
        self._direct = direct
        self._models = models
        self._limits = limits
        self._budget = MemoryBudget(limits.nbytes, budget)
        self._answer = answer
        self._regions: Dict[int, Region] = {}
        self._openings: Set[Opening] = set()
        self._running: Set[Frame] = set()
        self._last_number = 0
        self.client: Hashable = None

    @property
    def is_running(self) -> bool:
        """Whether an answer is to come of its own accord."""
        return bool(self._running or self._openings)

    def settle(self) -> None:
        """Takes note of the run whose answer went out past the loop, if there is one; it will still be emitted."""
        frame: Frame | None = self._direct.take_sent()
        if frame is not None:
            frame.told_early += 1
            self._end(frame)

    def open(self, request_id: int, asked: wire.LaneOpen) -> None:
        """Begins to make a region, and answers when it is there or can't be had.

        Raises:
            EdgeRuntimeError: it is refused at once.
        """
        limits = self._limits
        if len(self._regions) + len(self._openings) >= limits.regions:
            raise TooLargeError(f"{limits.regions} regions are open, as many as may be; close one")
        if asked.frames > limits.frames:
            raise TooLargeError(f"{asked.frames} frames: a region has at most {limits.frames}")
        model = self._models.find(asked.model, asked.version)

        def done(outcome: Region | EdgeRuntimeError) -> None:
            self._openings.discard(opening)
            if isinstance(outcome, EdgeRuntimeError):
                self._answer(wire.failed_message(request_id, outcome))
            else:
                self._opened(request_id, outcome, opening.give_back)

        try:
            opening = Opening(asked, model, self._budget, done)
        except RequestError:
            model.statistics.add_failure("OTHER", 0)
            raise
        opening.client = self.client
        self._openings.add(opening)
        opening.begin()

    def run(self, record: wire.Record, arrival_ns: int) -> None:
        """Hands a frame to its model, and answers when it is done.

        Raises:
            EdgeRuntimeError: it is refused at once.
        """
        region = self._region(record.region)
        if record.frame >= len(region.frames):
            raise _counted(region, f"frame {record.frame}: the region has {len(region.frames)}")
        frame = region.frames[record.frame]
        if frame.request is not None:
            raise _counted(region, f"frame {record.frame} is in use; wait for its answer")
        frame.prepare()
        request = Request(region.key, frame.feeds, frame.encode, frame.emit, arrival_ns, region.rows)
        request.slot = frame.slot
        request.client = self.client
        request.priority = record.priority
        if record.wait_us:
            request.deadline_ns = arrival_ns + record.wait_us * 1000
        if not region.model.runs_here(request) and self._direct.offer(frame):
            request.deliver = partial(
                self._told, frame, wire.done_message(region.number, frame.index, record.request_id)
            )
        region.begin(frame, request, record.request_id)
        self._running.add(frame)
        try:
            region.model.submit(request)
        except EdgeRuntimeError:
            self._end(frame)
            raise

    def close(self, number: int, request_id: int) -> None:
        """Closes a region: it takes no more runs, and goes now or after those that use it.

        Raises:
            UnknownNameError: it isn't open.
        """
        self._retire(self._region(number))
        self._answer(wire.done_message(number, 0, request_id))

    def forget(self, model: LaneModel) -> None:
        """Closes the regions of a model that is served no more."""
        for region in list(self._regions.values()):
            if region.model is model:
                self._retire(region)

    def drop(self) -> None:
        """Withdraws what waits, and closes everything: nobody is there for an answer any more."""
        self.settle()
        for opening in self._openings:
            opening.abandon()
        for frame in list(self._running):
            if frame.request is not None and frame.region.model.cancel(frame.request):
                self._end(frame)
        for region in list(self._regions.values()):
            self._retire(region)

    def _region(self, number: int) -> Region:
        region = self._regions.get(number)
        if region is None:
            raise UnknownNameError(
                f"unknown region {number}: it wasn't opened, or is closed, or its model is; open one"
            )
        return region

    def _opened(self, request_id: int, region: Region, freed: Callable[[], None]) -> None:
        self._last_number += 1
        region.number = self._last_number
        region.freed = freed
        region.finished = self._finished
        self._regions[region.number] = region
        self._answer(wire.opened_message(request_id, region.number, region.layout), region.descriptor)

    def _finished(self, frame: Frame, outcome: Any) -> None:
        """The end of a run, which may come while its message is still being handled."""
        if outcome in (DELIVERED, BROKEN):
            if frame.told_early:
                frame.told_early -= 1
            else:
                self._direct.take_sent(frame)
                self._end(frame)
            if outcome is BROKEN:
                self._direct.abort()
            return
        region, request_id, request = frame.region, frame.request_id, frame.request
        self._end(frame)
        if isinstance(outcome, RequestError) and request is not None:
            region.model.statistics.add_failure("OTHER", region.model.now_ns() - request.arrival_ns)
        if isinstance(outcome, EdgeRuntimeError):
            self._answer(wire.failed_message(request_id, outcome))
        else:
            self._answer(wire.done_message(region.number, frame.index, request_id))

    def _told(self, frame: Frame, message: bytes, outcome: Any) -> Any:
        """Tells the client that a run has ended, from the lane's thread; the loop does if that fails."""
        left = self._direct.send(frame, message)
        return left if left in (DELIVERED, BROKEN) else outcome

    def _end(self, frame: Frame) -> None:
        self._running.discard(frame)
        frame.region.end(frame)

    def _retire(self, region: Region) -> None:
        del self._regions[region.number]
        region.retire(region.freed)


def _counted(region: Region, problem: str) -> InvalidRequestError:
    region.model.statistics.add_failure("OTHER", 0)
    return InvalidRequestError(problem)
