"""A strict CUDA on host memory: `Cuda` of device/cuda/port.py without a GPU.

- Work on a stream runs only when somebody waits for the stream, for an event on it, or for the device. Until then the
  target of a queued write reads as `POISON` (0xDB), so a test sees a missing synchronisation. `is_event_done` lets one
  piece of work run each time that it answers False, so that polling ends.
- Device addresses can't be dereferenced; mapped host memory has another address for kernels. `fake.view` is how a
  "kernel" or a test sees memory.
- What real CUDA punishes with a crash or with wrong data raises `CudaViolationError`, an AssertionError, and stays in
  `fake.violations`, so that `check_leaks` reports it even where somebody swallowed it.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, List, Sequence

import numpy as np
from fakes.cuda_memory import POISON, CudaViolationError, Region
from fakes.cuda_state import DISCRETE, NANO, ORIN, Devices, call, fake_error
from fakes.cuda_streams import Address, Capture, Mark, Operation, Stream

from edge_runtime.device.cuda.failures import unsupported_graphs
from edge_runtime.device.cuda.port import CopyKind

__all__ = ["DISCRETE", "NANO", "ORIN", "POISON", "CudaViolationError", "FakeCuda", "fake_error"]


class _Memory(Devices):
    @call(breaks_capture=True)
    def allocate_device(self, nbytes: int) -> int:
        with self._lock:
            self._check_room("allocate_device", nbytes)
            return self._spaces.device(nbytes).address

    @call(on_any_thread=True, breaks_capture=True)
    def free_device(self, address: int) -> None:
        self._drop("device", address)

    @call(breaks_capture=True)
    def allocate_host(self, nbytes: int, mapped: bool) -> int:
        with self._lock:
            if mapped and not self._attributes.can_map_host:
                raise fake_error("allocate_host", 801)
            self._check_room("allocate_host", nbytes)
            return self._spaces.host(nbytes, mapped).address

    @call(on_any_thread=True, breaks_capture=True)
    def free_host(self, address: int) -> None:
        self._drop("host", address)

    @call(breaks_capture=True)
    def register_host(self, address: int, nbytes: int, mapped: bool) -> None:
        with self._lock:
            if not self._attributes.can_register_host:
                raise fake_error("register_host", 801)
            if nbytes <= 0:
                raise CudaViolationError(f"a registration of {nbytes} bytes")
            for span in self._spaces.alive():
                if span.kind != "device" and span.address < address + nbytes and address < span.address + span.nbytes:
                    raise fake_error("register_host", 712)
            self._spaces.registered(address, nbytes, mapped)

    @call(on_any_thread=True, breaks_capture=True)
    def unregister_host(self, address: int) -> None:
        self._drop("registered", address)

    @call()
    def device_address(self, host_address: int) -> int:
        with self._lock:
            region = self._spaces.on_host(host_address, 0)
            if region.span.alias is None:
                raise fake_error("device_address", 1)
            return region.span.alias + region.offset

    def view(self, address: int, nbytes: int) -> np.ndarray[Any, Any]:
        """The bytes that a kernel finds at a device address, or at the device address of mapped host memory."""
        with self._lock:
            try:
                return self._spaces.on_device(address, nbytes).bytes
            except CudaViolationError as violation:
                self.violations.append(f"view: {violation}")
                raise

    def _check_room(self, name: str, nbytes: int) -> None:
        if nbytes <= 0:
            raise CudaViolationError(f"an allocation of {nbytes} bytes")
        if self._used_nbytes() + nbytes > self._attributes.total_nbytes:
            raise fake_error(name, 2)

    def _drop(self, kind: str, address: int) -> None:
        with self._lock:
            span = self._spaces.take(kind, address)
            for operation in self._unfinished():
                if any(region.span is span for region in operation.regions):
                    raise CudaViolationError(f"{span} is given back while a queued {operation.what} uses it")
            self._spaces.drop(span)


class _Streams(_Memory):
    @call()
    def create_stream(self) -> int:
        with self._lock:
            handle = self._handle()
            self._streams[handle] = Stream(handle)
            return handle

    @call(on_any_thread=True)
    def destroy_stream(self, stream: int) -> None:
        with self._lock:
            found = self._stream(stream)
            if found.capture:
                raise CudaViolationError(f"stream {stream:#x} is destroyed during a capture")
            self._orphans.add(self._streams.pop(stream))

    @call()
    def synchronize_stream(self, stream: int) -> None:
        with self._lock:
            found = self._stream(stream)
            self._refuse_in_capture("synchronize_stream", found)
        self._runner.drain(found)

    @call()
    def copy_async(self, destination: int, source: int, nbytes: int, kind: CopyKind, stream: int) -> None:
        to_host, from_host = kind is CopyKind.DEVICE_TO_HOST, kind is CopyKind.HOST_TO_DEVICE

        def touches() -> tuple[List[Region], List[Region]]:
            target = (self._spaces.on_host if to_host else self._spaces.on_device)(destination, nbytes)
            origin = (self._spaces.on_host if from_host else self._spaces.on_device)(source, nbytes)
            if target.overlaps(origin):
                raise CudaViolationError(f"a copy of {nbytes:,} bytes onto itself at {source:#x} and {destination:#x}")
            return [origin], [target]

        def run() -> None:
            (origin,), (target,) = touches()
            target.bytes[:] = origin.bytes

        self._put(stream, Operation(f"copy {kind.name}", run, touches))

    @call()
    def fill_async(self, address: int, value: int, nbytes: int, stream: int) -> None:
        if not 0 <= value <= 255:
            raise CudaViolationError(f"a fill with {value}, which isn't a byte")

        def touches() -> tuple[List[Region], List[Region]]:
            return [], [self._spaces.on_device(address, nbytes)]

        self._put(stream, Operation("fill", lambda: touches()[1][0].bytes.fill(value), touches))

    @call()
    def enqueue(
        self, stream: int, function: Callable[[], None], reads: Sequence[Address] = (), writes: Sequence[Address] = ()
    ) -> None:
        """Puts a "kernel" on the stream: `function` runs in stream order, in a replay of a graph too.

        `reads` and `writes` are (device address, bytes) that it touches: they must stay alive until it has run, and
        mapped memory that it writes reads as `POISON` until then.
        """

        def touches() -> tuple[List[Region], List[Region]]:
            return [self._spaces.on_device(*at) for at in reads], [self._spaces.on_device(*at) for at in writes]

        self._put(stream, Operation("kernel", function, touches))

    @call()
    def wait_event(self, stream: int, event: int) -> None:
        with self._lock:
            found, mark = self._stream(stream), self._mark(event)
            if mark and mark.capture in self._captures:
                assert mark.capture is not None
                if found.capture not in (None, mark.capture):
                    self._break("wait_event", found, 905)
                mark.capture.join(found, mark)
            elif mark and found.capture:
                self._break("wait_event", found, 905)
            elif mark and mark.capture:
                raise fake_error("wait_event", 907)
            elif mark:
                found.queue.append(Operation("wait", waits_for=mark))

    def pending(self, stream: int) -> List[str]:
        """What is on a stream and hasn't run, in words."""
        with self._lock:
            return [operation.what for operation in self._stream(stream).unfinished()]

    def _put(self, handle: int, operation: Operation) -> None:
        with self._lock:
            stream = self._stream(handle)
            reads, writes = operation.touches()
            if stream.capture:
                if stream.capture.problem:
                    raise fake_error(operation.what, 901)
                stream.capture.add(stream, operation)
                return
            others = [region for queued in self._unfinished() for region in queued.regions]
            for region in writes:
                if not any(region.overlaps(other) for other in [*others, *reads]):
                    region.bytes.fill(POISON)
            operation.regions = [*reads, *writes]
            stream.queue.append(operation)

    def _stream(self, handle: int) -> Stream:
        if handle not in self._streams:
            raise CudaViolationError(f"{handle:#x} is no stream; it is destroyed, or was never created")
        return self._streams[handle]

    def _mark(self, event: int) -> Mark | None:
        if event not in self._events:
            raise CudaViolationError(f"{event:#x} is no event; it is destroyed, or was never created")
        return self._events[event]

    def _refuse_in_capture(self, name: str, stream: Stream) -> None:
        if stream.capture:
            self._break(name, stream, 900)

    def _break(self, name: str, stream: Stream, code: int) -> None:
        if stream.capture:
            stream.capture.problem = name
        raise fake_error(name, code)


class _Events(_Streams):
    @call()
    def create_event(self, timing: bool, blocking: bool = False) -> int:
        with self._lock:
            handle = self._handle()
            self._events[handle] = None
            if timing:
                self._timed.add(handle)
            return handle

    @call(on_any_thread=True)
    def destroy_event(self, event: int) -> None:
        with self._lock:
            self._mark(event)
            del self._events[event]

    @call()
    def record_event(self, event: int, stream: int) -> None:
        with self._lock:
            self._mark(event)
            found = self._stream(stream)
            if found.capture:
                self._events[event] = found.capture.marked(found)
                return
            mark = self._events[event] = Mark(found)
            found.queue.append(Operation("record", mark=mark))

    @call()
    def synchronize_event(self, event: int) -> None:
        with self._lock:
            mark = self._outside_captures("synchronize_event", event)
        if mark:
            self._runner.reach(mark)

    @call()
    def is_event_done(self, event: int) -> bool:
        with self._lock:
            mark = self._outside_captures("is_event_done", event)
            if mark is None or mark.is_done:
                return True
        self._runner.step(mark.stream)
        return False

    @call()
    def elapsed_ms(self, start: int, end: int) -> float:
        with self._lock:
            marks = [self._outside_captures("elapsed_ms", event) for event in (start, end)]
            for event, mark in zip((start, end), marks):
                if event not in self._timed or mark is None:
                    raise CudaViolationError(f"event {event:#x} was made without timing, or was never recorded")
                if not mark.is_done:
                    raise fake_error("elapsed_ms", 600)
            first, last = (mark.time_ms for mark in marks if mark)
            return last - first

    def _outside_captures(self, name: str, event: int) -> Mark | None:
        mark = self._mark(event)
        if mark and mark.capture:
            mark.capture.problem = name
            raise fake_error(name, 907)
        return mark


class FakeCuda(_Events):
    """See the module's text; `attributes` is what the device is (ORIN, NANO, DISCRETE, or one's own)."""

    @call()
    def begin_capture(self, stream: int) -> None:
        with self._lock:
            self._need_graphs()
            found = self._stream(stream)
            if found.capture:
                raise fake_error("begin_capture", 900)
            found.capture = Capture(found, threading.get_ident())
            found.capture.counts[found] = 0
            self._captures.append(found.capture)

    @call()
    def end_capture(self, stream: int) -> int:
        with self._lock:
            self._need_graphs()
            capture = self._stream(stream).capture
            if capture is None or capture.origin.handle != stream:
                raise fake_error("end_capture", 903)
            if capture.thread != threading.get_ident():
                raise fake_error("end_capture", 908)
            unjoined = capture.unjoined()
            self._end(capture)
            if capture.problem or unjoined:
                raise fake_error("end_capture", 901 if capture.problem else 904)
            handle = self._handle()
            self._graphs[handle] = capture.operations
            return handle

    @call(on_any_thread=True)
    def abandon_capture(self, stream: int) -> None:
        with self._lock:
            self._need_graphs()
            capture = self._stream(stream).capture
            if capture:
                self._end(capture)

    @call()
    def launch_graph(self, graph: int, stream: int) -> None:
        with self._lock:
            self._need_graphs()
            for operation in self._graph(graph):
                self._put(stream, Operation(operation.what, operation.run, operation.touches))

    @call(on_any_thread=True)
    def destroy_graph(self, graph: int) -> None:
        with self._lock:
            self._need_graphs()
            self._graph(graph)
            del self._graphs[graph]

    def alive(self) -> List[str]:
        """All that nobody gave back, in words."""
        with self._lock:
            return [
                *map(str, self._spaces.alive()),
                *(f"stream {handle:#x}" for handle in self._streams),
                *(f"event {handle:#x}" for handle in self._events),
                *(f"graph {handle:#x}" for handle in self._graphs),
            ]

    def check_leaks(self) -> None:
        """Raises AssertionError for what is alive (not after the context was lost), and for every violation so far."""
        found = [*self.violations, *([] if self._lost else [f"never given back: {what}" for what in self.alive()])]
        if found:
            raise AssertionError("; ".join(found))

    def _need_graphs(self) -> None:
        if not self.has_graphs:
            raise unsupported_graphs(self.name)

    def _graph(self, handle: int) -> List[Operation]:
        if handle not in self._graphs:
            raise CudaViolationError(f"{handle:#x} is no graph; it is destroyed, or was never made")
        return self._graphs[handle]

    def _end(self, capture: Capture) -> None:
        capture.end()
        self._captures.remove(capture)
