"""Streams, events and graphs with an owner."""

from __future__ import annotations

from typing import Callable

from edge_runtime.device.cuda.owned import Owned
from edge_runtime.device.cuda.port import CopyKind, Cuda


class Stream(Owned):
    """Work in order, beside that of other streams and of the default stream; used by one thread at a time.

    Closing it doesn't wait: synchronise first, and then close the memory that its work uses.
    """

    def __init__(self, cuda: Cuda, name: str = "") -> None:
        self._cuda = cuda
        super().__init__(_label("stream", name), cuda.create_stream(), cuda.destroy_stream)

    @property
    def handle(self) -> int:
        """CUDA's own handle, for TensorRT."""
        return self._open_handle()

    def copy(self, destination: int, source: int, nbytes: int, kind: CopyKind) -> None:
        """Puts a copy between two addresses on the stream; host memory must be pinned or registered."""
        self._cuda.copy_async(destination, source, nbytes, kind, self._open_handle())

    def fill(self, address: int, value: int, nbytes: int) -> None:
        """Puts a fill of device memory with one byte value on the stream."""
        self._cuda.fill_async(address, value, nbytes, self._open_handle())

    def wait(self, event: Event) -> None:
        """Makes later work on the stream wait for the event's last record."""
        self._cuda.wait_event(self._open_handle(), event.handle)

    def synchronize(self) -> None:
        """Waits for all work on the stream.

        Raises:
            DeviceLostError: work on it killed the context.
        """
        self._cuda.synchronize_stream(self._open_handle())

    def capture(self, record: Callable[[], None], name: str = "") -> Graph:
        """The graph of what `record` puts on this stream, and on streams that it makes wait for events of this one.

        Nothing runs. `record` may neither allocate nor wait; other threads may. Run the work once before it is
        captured, so that libraries have loaded their kernels.

        Raises:
            BackendError: `record` did something that can't be captured, or there are no graphs here. The stream works
                as before, also when `record` itself raises.
        """
        handle = self._open_handle()
        self._cuda.begin_capture(handle)
        try:
            record()
        except BaseException:
            self._cuda.abandon_capture(handle)
            raise
        return Graph(self._cuda, self._cuda.end_capture(handle), name)


class Event(Owned):
    """A point in a stream's work. `timing` allows `elapsed_ms`; a thread that waits for a `blocking` one sleeps."""

    def __init__(self, cuda: Cuda, timing: bool = False, blocking: bool = False, name: str = "") -> None:
        self._cuda = cuda
        super().__init__(_label("event", name), cuda.create_event(timing, blocking), cuda.destroy_event)

    @property
    def handle(self) -> int:
        """What the port takes; CUDA's own handle where cuda-python is the library, but not with pycuda."""
        return self._open_handle()

    @property
    def is_done(self) -> bool:
        """Whether the work before its last record has finished; True if it was never recorded."""
        return self._cuda.is_event_done(self._open_handle())

    def record(self, stream: Stream) -> None:
        """Puts it after the work that is on the stream now."""
        self._cuda.record_event(self._open_handle(), stream.handle)

    def synchronize(self) -> None:
        """Waits for its last record.

        Raises:
            DeviceLostError: work before it killed the context.
        """
        self._cuda.synchronize_event(self._open_handle())

    def elapsed_ms(self, start: Event) -> float:
        """Milliseconds from `start` to this one; both are timed and done."""
        return self._cuda.elapsed_ms(start.handle, self._open_handle())


class Graph(Owned):
    """Captured work; made by `Stream.capture`. The memory that it uses must outlive it."""

    def __init__(self, cuda: Cuda, handle: int, name: str = "") -> None:
        self._cuda = cuda
        super().__init__(_label("graph", name), handle, cuda.destroy_graph)

    def launch(self, stream: Stream) -> None:
        """Puts all of it on the stream."""
        self._cuda.launch_graph(self._open_handle(), stream.handle)


def _label(kind: str, name: str) -> str:
    return f"{kind} {name!r}" if name else f"a {kind}"
