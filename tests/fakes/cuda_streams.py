"""The streams of FakeCuda: queues that run when somebody waits, and captures that record."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Callable, Deque, Dict, List, Tuple

from fakes.cuda_memory import CudaViolationError, Region

Address = Tuple[int, int]  # address and bytes


@dataclass(eq=False)
class Mark:
    """One record of an event: done once its stream has come that far, or a point in a capture."""

    stream: Stream
    capture: Capture | None = None
    clock: Dict[Stream, int] = field(default_factory=dict)
    is_done: bool = False
    time_ms: float = 0.0


@dataclass(eq=False)
class Operation:
    """A piece of work; `waits_for` must be done before it runs, `mark` is done with it."""

    what: str
    run: Callable[[], None] = lambda: None
    touches: Callable[[], Tuple[List[Region], List[Region]]] = lambda: ([], [])
    waits_for: Mark | None = None
    mark: Mark | None = None
    regions: List[Region] = field(default_factory=list)


@dataclass(eq=False)
class Stream:
    """Work in order. `clock` says, during a capture, how much of each stream this one comes after."""

    handle: int
    queue: Deque[Operation] = field(default_factory=deque)
    running: Operation | None = None
    capture: Capture | None = None
    clock: Dict[Stream, int] = field(default_factory=dict)

    def unfinished(self) -> List[Operation]:
        return [*([self.running] if self.running else []), *self.queue]


@dataclass(eq=False)
class Capture:
    """What is being recorded, by which thread; `problem` is set once it is broken."""

    origin: Stream
    thread: int
    operations: List[Operation] = field(default_factory=list)
    counts: Dict[Stream, int] = field(default_factory=dict)
    problem: str = ""

    def add(self, stream: Stream, operation: Operation) -> None:
        self.operations.append(operation)
        self.counts[stream] = stream.clock[stream] = self.counts.get(stream, 0) + 1

    def marked(self, stream: Stream) -> Mark:
        return Mark(stream, self, dict(stream.clock))

    def join(self, stream: Stream, mark: Mark) -> None:
        """`stream` comes after `mark`, and takes part from now on."""
        stream.capture = self
        self.counts.setdefault(stream, 0)
        for other, count in mark.clock.items():
            stream.clock[other] = max(stream.clock.get(other, 0), count)

    def unjoined(self) -> List[Stream]:
        return [stream for stream, count in self.counts.items() if self.origin.clock.get(stream, 0) < count]

    def end(self) -> None:
        for stream in {self.origin, *self.counts}:
            stream.capture = None
            stream.clock = {}


class Runner:
    """Runs queues in order and outside the lock, so that a kernel which waits stops nobody but its own stream."""

    def __init__(self, operation_ms: float) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.in_kernel = threading.local()
        self.clock_ms = 0.0
        self._operation_ms = operation_ms

    def drain(self, stream: Stream, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Runs what is on `stream`, and what that waits for, until it is empty or enough."""
        while True:
            operation = None
            with self.changed:
                while stream.running:
                    self.changed.wait()
                if is_enough() or not stream.queue:
                    return
                awaited = stream.queue[0].waits_for
                if awaited is None or awaited.is_done:
                    stream.running = operation = stream.queue.popleft()
            if operation:
                self._run(stream, operation)
            elif awaited:
                self.reach(awaited)

    def reach(self, mark: Mark) -> None:
        """Runs what it takes until `mark` is done."""
        self.drain(mark.stream, lambda: mark.is_done)

    def step(self, stream: Stream) -> None:
        """Runs one piece of work, with what it waits for."""
        before = len(stream.queue)
        self.drain(stream, lambda: len(stream.queue) < before)

    def _run(self, stream: Stream, operation: Operation) -> None:
        try:
            if getattr(self.in_kernel, "is_set", False):
                raise CudaViolationError("a kernel can't wait for a stream")
            self.in_kernel.is_set = True
            operation.run()
        finally:
            self.in_kernel.is_set = False
            with self.changed:
                self.clock_ms += self._operation_ms
                if operation.mark:
                    operation.mark.is_done = True
                    operation.mark.time_ms = self.clock_ms
                stream.running = None
                self.changed.notify_all()
