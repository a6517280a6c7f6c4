"""A server of the lane alone: a model table that runs inline or when it is told to, on a loop of its own."""

from __future__ import annotations

import array
import asyncio
import copy
import os
import socket
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple

import numpy as np

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import EdgeRuntimeError, UnknownNameError
from edge_runtime.scheduling.request import Request
from edge_runtime.server.lane import LaneProtocol
from edge_runtime.server.lane_holdings import LaneLimits
from edge_runtime.server.lane_region import MemoryBudget
from edge_runtime.server.under_way import UnderWay
from edge_runtime.wire import lane as wire


class Failures:
    """Counts what a transport counts."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = {}

    def add_failure(self, reason: str, duration_ns: int) -> None:
        assert duration_ns >= 0
        self.counts[reason] = self.counts.get(reason, 0) + 1


class MadeUpModel:
    """Runs requests at once, or keeps them in `waiting` while `holds`; `refusal` is raised for all, once set."""

    def __init__(self, engine: Engine, uses_slots: bool = True) -> None:
        self.key = engine.info.name
        self.lent = UnderWay()
        self.is_retired = False
        self.engine = engine if uses_slots else WithoutSlotsOver(engine)
        self.statistics = Failures()
        self.waiting: Deque[Request] = deque()
        self.running: List[Request] = []
        self.seen: List[Request] = []
        self.cancelled = 0
        self.holds = False
        self.refusal: Optional[EdgeRuntimeError] = None

    def submit(self, request: Request) -> None:
        if self.refusal is not None:
            raise copy.copy(self.refusal)  # an error that is raised keeps what it passed through
        self.seen.append(request)
        if self.holds:
            self.waiting.append(request)
        else:
            request.emit(self.outcome(request))

    def cancel(self, request: Request) -> bool:
        if request not in self.waiting:
            return False
        self.waiting.remove(request)
        self.cancelled += 1
        return True

    def runs_here(self, request: Any) -> bool:
        return True

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def outcome(self, request: Request) -> Any:
        try:
            if request.slot is not None:
                return request.encode(request.slot.run())
            with self.engine.slot() as slot:
                for name, value in request.inputs.items():
                    np.copyto(slot.bind(name, value.shape), value)
                return request.encode(slot.run())
        except EdgeRuntimeError as error:
            return error

    def begin(self) -> None:
        """Takes the oldest that waits into a run: it can't be cancelled any more."""
        self.running.append(self.waiting.popleft())

    def finish(self) -> None:
        """Ends the oldest run."""
        request = self.running.pop(0)
        request.emit(self.outcome(request))


class WithoutSlotsOver:
    """An engine of a backend that has no slots over its user's memory."""

    def __init__(self, engine: Engine) -> None:
        self.info, self.signature, self.slot = engine.info, engine.signature, engine.slot

    def slot_over(self, memory: Mapping[str, Any]) -> None:
        return None


class WatchedBudget(MemoryBudget):
    """Tells of memory that is given back."""

    def give_back(self, nbytes: int) -> None:
        super().give_back(nbytes)
        self.changed()


class Watched(LaneProtocol):
    """Tells of what happens to it, after it happened."""

    is_lost = is_blocked = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.changed()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_blocked = True
        self.changed()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        self.changed()


class LaneServer:
    """Serves models on a Unix socket until `stop`."""

    def __init__(
        self,
        path: str,
        models: Mapping[str, MadeUpModel],
        limits: Optional[LaneLimits] = None,
        shared_nbytes: int = 1 << 30,
    ) -> None:
        self.path = path
        self.models = models
        self.budget = WatchedBudget(shared_nbytes)
        self.protocols: List[LaneProtocol] = []
        self.ended: List[LaneProtocol] = []
        self._limits = limits or LaneLimits()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)

    def find(self, name: str, version: str = "") -> MadeUpModel:
        if name not in self.models or version not in ("", "1"):
            raise UnknownNameError(f"unknown model {name[:128]!a}")
        return self.models[name]

    def call(self, function: Callable[[], Any]) -> Any:
        """What `function` gives back on the loop's thread."""

        async def called() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(10)

    def until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` holds on the loop's thread."""

        async def holds() -> None:
            while not condition():
                self._changed.clear()
                await self._changed.wait()

        asyncio.run_coroutine_threadsafe(asyncio.wait_for(holds(), 10), self._loop).result(15)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _made(self) -> LaneProtocol:
        self.protocols.append(Watched(self, self._limits, self.budget, lost=self.ended.append))
        self.protocols[-1].changed = self._changed.set
        return self.protocols[-1]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._changed = asyncio.Event()
        self.budget.changed = self._changed.set
        server = await self._loop.create_unix_server(self._made, self.path)
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for protocol in self.protocols:
            protocol._transport.abort()
        await asyncio.sleep(0)
        await server.wait_closed()


class RawClient:
    """The lane's bytes by hand: what a client of ours would never send, too."""

    def __init__(self, path: str, begins_with: bytes = wire.MAGIC) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.socket.sendall(begins_with)
        self.descriptors = array.array("i")
        self._reader = wire.LaneReader(wire.SERVER_LIMITS)
        self._found: Deque[Tuple[wire.Record, bytes]] = deque()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Tuple[wire.Record, bytes]:
        """The next message; its descriptors are added to `descriptors`."""
        while not self._found:
            data, ancillary, _, _ = self.socket.recvmsg(2**16, socket.CMSG_SPACE(64))
            for _, _, content in ancillary:
                self.descriptors.frombytes(content)
            assert data, "the server closed the connection"
            self._found.extend(self._reader.messages(data))
        return self._found.popleft()

    def failure(self) -> wire.LaneFailure:
        """The next message, which is a refusal."""
        record, payload = self.answer()
        assert record.kind == wire.FAILED
        return wire.failure_from_payload(payload)

    def open(self, model: str, shapes: Mapping[str, Any], frames: int = 1) -> int:
        """The number of a new region."""
        self.send(wire.open_message(1, wire.LaneOpen(model, "", shapes, (), frames)))
        record, _ = self.answer()
        assert record.kind == wire.OPENED
        return record.region

    def is_closed(self) -> bool:
        """Whether the server closes the connection, which is waited for."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        del self.descriptors[:]
        self.socket.close()
