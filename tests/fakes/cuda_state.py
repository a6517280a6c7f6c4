"""The state of FakeCuda, and what each of its calls passes through."""

from __future__ import annotations

import functools
import threading
from collections import Counter, defaultdict
from typing import Any, Callable, DefaultDict, Dict, List, Set, TypeVar

from fakes.cuda_memory import CudaViolationError, Spaces
from fakes.cuda_streams import Capture, Mark, Operation, Runner, Stream

from edge_runtime.device.cuda.failures import cuda_error
from edge_runtime.device.cuda.port import DeviceAttributes, MemoryInfo
from edge_runtime.errors import BackendError, DeviceLostError

ORIN = DeviceAttributes("Fake Orin", (8, 7), True, True, True, False, 8 << 30)
NANO = DeviceAttributes("Fake Nano", (5, 3), True, True, False, False, 4 << 30)
DISCRETE = DeviceAttributes("Fake RTX", (8, 9), False, True, True, True, 16 << 30)

_NAMES = {
    1: ("cudaErrorInvalidValue", "invalid argument"),
    2: ("cudaErrorMemoryAllocation", "out of memory"),
    101: ("cudaErrorInvalidDevice", "invalid device ordinal"),
    600: ("cudaErrorNotReady", "device not ready"),
    700: ("cudaErrorIllegalAddress", "an illegal memory access was encountered"),
    712: ("cudaErrorHostMemoryAlreadyRegistered", "part or all of the requested memory range is already mapped"),
    801: ("cudaErrorNotSupported", "operation not supported"),
    900: ("cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"),
    901: ("cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"),
    903: ("cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"),
    904: ("cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"),
    905: ("cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"),
    907: ("cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"),
    908: (
        "cudaErrorStreamCaptureWrongThread",
        "attempt to terminate a thread-local capture sequence from another thread",
    ),
}

Method = TypeVar("Method", bound=Callable[..., Any])


def fake_error(call: str, code: int) -> BackendError:
    """What an adapter would raise for an error number."""
    return cuda_error(call, code, *_NAMES.get(code, (f"cudaError{code}", "")))


def call(on_any_thread: bool = False, breaks_capture: bool = False) -> Callable[[Method], Method]:
    """Counts a call of the port, and refuses it where CUDA would."""

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def checked(self: Base, *args: Any, **kwargs: Any) -> Any:
            try:
                self._enter(method.__name__, on_any_thread, breaks_capture)
                return method(self, *args, **kwargs)
            except CudaViolationError as violation:
                self.violations.append(f"{method.__name__}: {violation}")
                raise
            except DeviceLostError as error:
                self._lost = self._lost or error
                raise

        return checked  # type: ignore[return-value]

    return decorate


class Base:
    """State, and what every call passes through."""

    def __init__(
        self,
        attributes: DeviceAttributes = ORIN,
        devices: int = 1,
        has_graphs: bool = True,
        driver: int = 12060,
        runtime: int = 12060,
        operation_ms: float = 0.25,
    ) -> None:
        self.name = "fake-cuda 1.0"
        self.has_graphs = has_graphs
        self.counts: Counter[str] = Counter()
        self.violations: List[str] = []
        self._attributes = attributes
        self._devices = devices
        self._driver = driver
        self._runtime = runtime
        self._failures: DefaultDict[str, List[BackendError | None]] = defaultdict(list)
        self._lost: DeviceLostError | None = None
        self._thread = threading.local()
        self._spaces = Spaces()
        self._runner = Runner(operation_ms)
        self._lock = self._runner.changed
        self._streams: Dict[int, Stream] = {}
        self._orphans: Set[Stream] = set()
        self._events: Dict[int, Mark | None] = {}
        self._timed: Set[int] = set()
        self._graphs: Dict[int, List[Operation]] = {}
        self._captures: List[Capture] = []
        self._next_handle = 0x1000

    def fail_next(self, name: str, error: BackendError | int, after: int = 0) -> None:
        """Lets a call of that name fail once, `after` that many good ones; an int is CUDA's number for the error.

        A DeviceLostError, or a number that stands for one, makes every later call fail as well.
        """
        assert hasattr(self, name), f"no call {name!r}"
        failure = fake_error(name, error) if isinstance(error, int) else error
        self._failures[name].extend([*[None] * after, failure])

    def _enter(self, name: str, on_any_thread: bool, breaks_capture: bool) -> None:
        with self._lock:
            self.counts[name] += 1
            if getattr(self._runner.in_kernel, "is_set", False):
                raise CudaViolationError("a kernel can't call CUDA")
            if not on_any_thread and not hasattr(self._thread, "device"):
                raise CudaViolationError(f"thread {threading.current_thread().name!r} hasn't called use_device")
            if self._lost:
                raise self._lost
            failure = self._failures[name].pop(0) if self._failures[name] else None
            if failure:
                raise failure
            for capture in self._captures:
                if breaks_capture and capture.thread == threading.get_ident():
                    capture.problem = name
                    raise fake_error(name, 900)

    def _handle(self) -> int:
        self._next_handle += 0x10
        return self._next_handle

    def _unfinished(self) -> List[Operation]:
        return [operation for stream in self._all_streams() for operation in stream.unfinished()]

    def _all_streams(self) -> List[Stream]:
        return [*self._streams.values(), *self._orphans]


class Devices(Base):
    @call(on_any_thread=True)
    def driver_version(self) -> int:
        return self._driver

    @call(on_any_thread=True)
    def runtime_version(self) -> int:
        return self._runtime

    @call(on_any_thread=True)
    def device_count(self) -> int:
        return self._devices

    @call(on_any_thread=True)
    def attributes(self, device: int) -> DeviceAttributes:
        self._check_ordinal("attributes", device)
        return self._attributes

    @call(on_any_thread=True)
    def use_device(self, device: int) -> None:
        self._check_ordinal("use_device", device)
        self._thread.device = device

    @call()
    def memory_info(self) -> MemoryInfo:
        total = self._attributes.total_nbytes
        return MemoryInfo(total - self._used_nbytes(), total)

    @call(breaks_capture=True)
    def synchronize_device(self) -> None:
        for stream in self._all_streams():
            self._runner.drain(stream)
        self._orphans.clear()

    @call()
    def check(self) -> None:
        """`_enter` has raised what there is."""

    def _check_ordinal(self, name: str, device: int) -> None:
        if not 0 <= device < self._devices:
            raise fake_error(name, 101)

    def _used_nbytes(self) -> int:
        kinds = ("device", "host") if self._attributes.is_integrated else ("device",)
        return sum(span.nbytes for span in self._spaces.alive() if span.kind in kinds)
