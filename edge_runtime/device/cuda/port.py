"""What the project asks of CUDA: addresses and handles are plain integers, as TensorRT takes them.

Errors are the same in every adapter: `BackendUnavailableError` where there is no driver or device, `DeviceLostError`
once the context is dead, `BackendError` for the rest. A call that frees or destroys may be made on any thread; every
other call needs `use_device` on its thread first.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Tuple


class CopyKind(enum.IntEnum):
    """The direction of a copy, with CUDA's own numbers."""

    HOST_TO_DEVICE = 1
    DEVICE_TO_HOST = 2
    DEVICE_TO_DEVICE = 3


class MemoryInfo(NamedTuple):
    """Bytes of device memory; on a Jetson it is the memory of the whole board, less what can be reclaimed."""

    free_nbytes: int
    total_nbytes: int


@dataclass(frozen=True)
class DeviceAttributes:
    """What decides how memory is used on a device.

    `is_integrated`: the GPU shares the CPU's memory. `can_register_host`: memory that somebody else allocated can be
    pinned (never with pycuda). `has_concurrent_managed`: the CPU may touch managed memory while a kernel runs.
    """

    name: str
    compute_capability: Tuple[int, int]
    is_integrated: bool
    can_map_host: bool
    can_register_host: bool
    has_concurrent_managed: bool
    total_nbytes: int


class CudaDevices(Protocol):
    """Devices, versions and the state of this process's context."""

    name: str
    """The library behind it and its version, such as `cuda-python 12.9.1`."""

    def driver_version(self) -> int:
        """The newest CUDA that the driver serves, as CUDA writes it (12040 is 12.4); 0 where there is no driver."""

    def runtime_version(self) -> int:
        """The CUDA that the library was made for, as CUDA writes it."""

    def device_count(self) -> int:
        """How many devices this process sees."""

    def attributes(self, device: int) -> DeviceAttributes:
        """What the device of that ordinal is."""

    def use_device(self, device: int) -> None:
        """Makes the device's primary context current on the calling thread; each thread calls it once."""

    def memory_info(self) -> MemoryInfo:
        """Free and total memory of the current device."""

    def synchronize_device(self) -> None:
        """Waits for all work of the current device."""

    def check(self) -> None:
        """Raises the error that an earlier call left behind, if any.

        Raises:
            DeviceLostError: the context is dead.
            BackendError: another error, which is forgotten then.
        """


class CudaMemory(Protocol):
    """Allocation and registration; no size is zero."""

    def allocate_device(self, nbytes: int) -> int:
        """The address of device memory, aligned to at least 256 bytes; its contents are undefined."""

    def free_device(self, address: int) -> None:
        """Gives device memory back, when the device has finished with it."""

    def allocate_host(self, nbytes: int, mapped: bool) -> int:
        """The address of pinned host memory, aligned to at least 256 bytes, valid in every context.

        Mapped memory can be read and written by kernels too, at its `device_address`. Never write-combined.
        """

    def free_host(self, address: int) -> None:
        """Gives pinned host memory back."""

    def register_host(self, address: int, nbytes: int, mapped: bool) -> None:
        """Pins memory that somebody else allocated; it must outlive its registration.

        Raises:
            BackendError: the device can't (`can_register_host`), or a page of it is registered already.
        """

    def unregister_host(self, address: int) -> None:
        """Ends a registration; the memory itself stays."""

    def device_address(self, host_address: int) -> int:
        """Where kernels find mapped host memory; the address may point into the middle of it."""


class CudaStreams(Protocol):
    """Streams and what is put on them; nothing here waits for the device."""

    def create_stream(self) -> int:
        """A stream that doesn't wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Gives a stream back; work on it still finishes."""

    def synchronize_stream(self, stream: int) -> None:
        """Waits for all work on the stream, and raises what failed in it. The GIL is released meanwhile."""

    def copy_async(self, destination: int, source: int, nbytes: int, kind: CopyKind, stream: int) -> None:
        """Puts a copy on the stream; host memory must be pinned, and unchanged until the copy is done."""

    def fill_async(self, address: int, value: int, nbytes: int, stream: int) -> None:
        """Puts a fill of device memory with one byte value on the stream."""

    def wait_event(self, stream: int, event: int) -> None:
        """Makes later work on the stream wait for the event's last record; the calling thread doesn't wait."""


class CudaEvents(Protocol):
    """Points in a stream's work."""

    def create_event(self, timing: bool, blocking: bool = False) -> int:
        """An event; without `timing` it costs less. A thread that waits for a `blocking` one sleeps, others spin."""

    def destroy_event(self, event: int) -> None:
        """Gives an event back."""

    def record_event(self, event: int, stream: int) -> None:
        """Puts the event after the work that is on the stream now."""

    def synchronize_event(self, event: int) -> None:
        """Waits for the event's last record; returns at once where there is none. The GIL is released meanwhile."""

    def is_event_done(self, event: int) -> bool:
        """Whether the event's last record has been reached; True where there is none."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two timed events that are done."""


class CudaGraphs(Protocol):
    """Work that is recorded once and launched as a whole.

    A capture sees the calls of its own thread alone: other threads may allocate and synchronise meanwhile. Its own
    thread may not: that breaks the capture.
    """

    has_graphs: bool
    """Whether the library can capture; where it can't, each call here raises `BackendError`."""

    def begin_capture(self, stream: int) -> None:
        """Records what this thread puts on the stream from now on, in place of running it."""

    def end_capture(self, stream: int) -> int:
        """The executable graph of what was recorded; the stream works as usual again, also when this raises.

        Raises:
            BackendError: something that can't be captured was done meanwhile.
        """

    def abandon_capture(self, stream: int) -> None:
        """Ends a capture that went wrong and drops what it recorded; does nothing where there is none."""

    def launch_graph(self, graph: int, stream: int) -> None:
        """Puts all that a graph holds on the stream."""

    def destroy_graph(self, graph: int) -> None:
        """Gives an executable graph back."""


class Cuda(CudaDevices, CudaMemory, CudaStreams, CudaEvents, CudaGraphs, Protocol):
    """All of it: what an adapter implements."""


def version_text(version: int) -> str:
    """A CUDA version as people write it: 12040 is `12.4`; `none` for 0."""
    return f"{version // 1000}.{version % 1000 // 10}" if version else "none"
