"""Whether CUDA does what the runtime asks of it: each check moves bytes, and compares them."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any, Callable, Iterator, List, Tuple, Union

import numpy as np
import numpy.typing as npt

from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer, RegisteredBuffer
from edge_runtime.device.cuda.port import CopyKind, Cuda, DeviceAttributes
from edge_runtime.device.cuda.streams import Event, Stream
from edge_runtime.errors import BackendError

_NBYTES = 1 << 20

Check = Callable[[Cuda], str]


def cuda_checks(device: DeviceAttributes, has_graphs: bool) -> List[Tuple[str, Union[Check, str]]]:
    """The checks by name, in order; a text in place of one says why this device or library can't do that."""
    return [
        ("pinned memory", _pinned),
        ("mapped memory", _mapped if device.can_map_host else "the device can't map the CPU's memory"),
        ("registered memory", _registered if device.can_register_host else "the device can't register memory"),
        ("events", _events),
        ("CUDA graphs", _graphs if has_graphs else "the library can't capture; cuda-python can"),
    ]


def _pattern() -> npt.NDArray[np.uint8]:
    return np.arange(_NBYTES, dtype=np.uint64).astype(np.uint8)


def _check_same(got: Any, what: str) -> None:
    if not np.array_equal(got, _pattern()):
        raise BackendError(
            f"{what}: the bytes that came back aren't those that were sent; attach this report to an issue"
        )


@contextlib.contextmanager
def _round_trip(cuda: Cuda) -> Iterator[Tuple[Stream, DeviceBuffer, HostBuffer]]:
    """A stream, memory on the device, and pinned memory for what comes back."""
    with Stream(cuda) as stream, DeviceBuffer(cuda, _NBYTES) as there, HostBuffer(cuda, _NBYTES) as back:
        yield stream, there, back


def _copy_both_ways(stream: Stream, source: int, there: DeviceBuffer, back: HostBuffer) -> None:
    stream.copy(there.address, source, _NBYTES, CopyKind.HOST_TO_DEVICE)
    stream.copy(back.address, there.address, _NBYTES, CopyKind.DEVICE_TO_HOST)


def _pinned(cuda: Cuda) -> str:
    with _round_trip(cuda) as (stream, there, back), HostBuffer(cuda, _NBYTES) as source:
        source.array(np.uint8, (_NBYTES,))[:] = _pattern()
        _copy_both_ways(stream, source.address, there, back)
        stream.synchronize()
        _check_same(back.array(np.uint8, (_NBYTES,)), "pinned memory")
    return f"{_NBYTES >> 20} MiB to the device and back"


def _mapped(cuda: Cuda) -> str:
    with HostBuffer(cuda, _NBYTES, mapped=True) as source, HostBuffer(cuda, _NBYTES, mapped=True) as back:
        source.array(np.uint8, (_NBYTES,))[:] = _pattern()
        with Stream(cuda) as stream:
            stream.copy(back.device_address, source.device_address, _NBYTES, CopyKind.DEVICE_TO_DEVICE)
            stream.synchronize()
        _check_same(back.array(np.uint8, (_NBYTES,)), "mapped memory")
    return "read and written by the device where it lies"


def _registered(cuda: Cuda) -> str:
    with mmap.mmap(-1, _NBYTES) as shared:
        shared[:] = _pattern().tobytes()
        with _round_trip(cuda) as (stream, there, back), RegisteredBuffer(cuda, shared) as source:
            _copy_both_ways(stream, source.address, there, back)
            stream.synchronize()
            _check_same(back.array(np.uint8, (_NBYTES,)), "registered memory")
    return "memory of somebody else, pinned for a time"


def _events(cuda: Cuda) -> str:
    with _round_trip(cuda) as (stream, there, _), Event(cuda, timing=True) as start, Event(cuda, timing=True) as end:
        start.record(stream)
        stream.fill(there.address, 7, _NBYTES)
        end.record(stream)
        end.synchronize()
        took_ms = end.elapsed_ms(start)
    if took_ms < 0:
        raise BackendError(f"events: expected time to pass between two of them, got {took_ms} ms")
    return "recorded, waited for, and timed"


def _graphs(cuda: Cuda) -> str:
    with contextlib.ExitStack() as stack:
        stream, there, back = stack.enter_context(_round_trip(cuda))
        source = stack.enter_context(HostBuffer(cuda, _NBYTES))
        graph = stack.enter_context(stream.capture(lambda: _copy_both_ways(stream, source.address, there, back)))
        for _ in range(2):
            source.array(np.uint8, (_NBYTES,))[:] = _pattern()
            back.array(np.uint8, (_NBYTES,))[:] = 0
            graph.launch(stream)
            stream.synchronize()
            _check_same(back.array(np.uint8, (_NBYTES,)), "CUDA graphs")
    return "captured once, launched twice"
