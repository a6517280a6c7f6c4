"""CUDA through pycuda: the primary context, which TensorRT shares; no graphs, and no registration of host memory.

pycuda keeps objects where CUDA has numbers, so each is kept here under a number. It ends the process when a thread ends
with a context on it, and frees only where the context of the allocation is current: both are seen to here. An event's
number is ours, not CUDA's, which pycuda doesn't tell. Its register_host_memory drops a reference too many and crashes
(seen with pycuda 2026.1 and NumPy 2.4), so it is left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import itertools
import threading
from importlib import metadata
from typing import Any, Dict, Iterator, NoReturn, Tuple

from edge_runtime.device.cuda.failures import cuda_error_from_text, unsupported_graphs
from edge_runtime.device.cuda.memory import host_bytes
from edge_runtime.device.cuda.port import CopyKind, DeviceAttributes, MemoryInfo
from edge_runtime.errors import BackendError, BackendUnavailableError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which pycuda doesn't name


@functools.lru_cache(maxsize=None)
def load_pycuda() -> PyCuda:
    """The process's adapter over the installed pycuda; no device is touched.

    Raises:
        BackendUnavailableError: there is none, or no driver, without which pycuda can't be imported.
    """
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise BackendUnavailableError(f"pycuda can't be imported ({error}); pip install pycuda") from error
    version = "of unknown version"
    with contextlib.suppress(metadata.PackageNotFoundError):
        version = metadata.version("pycuda")
    return PyCuda(driver, version)


class _Contexts:
    """One primary context a device, shared by all threads, and current on those that called `use_device`."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._retained: Dict[int, Any] = {}
        self._threads = threading.local()
        self._lock = threading.Lock()

    def use(self, device: int) -> None:
        """Makes the context of a device current on this thread, until the thread ends."""
        current = getattr(self._threads, "current", None)
        if current is not None and current.device == device:
            return
        context = self._of(device)
        if current is not None:
            current.pop()
        context.push()
        self._threads.current = _Current(device, context)

    def current(self) -> Any:
        """The context of this thread; None before `use`."""
        found = getattr(self._threads, "current", None)
        return found.context if found is not None else None

    @contextlib.contextmanager
    def active(self, context: Any) -> Iterator[None]:
        """A context that is current for the length of the block, on any thread."""
        if context is self.current():
            yield
            return
        context.push()
        try:
            yield
        finally:
            context.pop()

    def close(self) -> None:
        """Pops this thread's context and releases all."""
        current = getattr(self._threads, "current", None)
        if current is not None:
            current.pop()
        retained, self._retained = self._retained, {}
        for context in retained.values():
            context.detach()

    def _of(self, device: int) -> Any:
        with self._lock:
            if device not in self._retained:
                self._retained[device] = self._driver.Device(device).retain_primary_context()
            return self._retained[device]


class _Current:
    """A pushed context; Python drops it on its own thread when that ends, and then it is popped."""

    def __init__(self, device: int, context: Any) -> None:
        self.device = device
        self.context = context

    def pop(self) -> None:
        if self.context is not None:
            self.context, context = None, self.context
            context.pop()

    def __del__(self) -> None:
        self.pop()


class _Kept:
    """pycuda's objects by number, each with the context that it belongs to."""

    def __init__(self, contexts: _Contexts, what: str) -> None:
        self._contexts = contexts
        self._what = what
        self._objects: Dict[int, Tuple[Any, Any]] = {}

    def add(self, number: int, thing: Any) -> int:
        self._objects[number] = (thing, self._contexts.current())
        return number

    def get(self, number: int) -> Any:
        try:
            return self._objects[number][0]
        except KeyError:
            raise self._unknown(number) from None

    @contextlib.contextmanager
    def taken(self, number: int) -> Iterator[Any]:
        """Forgets an object; its context is current for the length of the block and for the object's end."""
        if number not in self._objects:
            raise self._unknown(number)
        thing, context = self._objects.pop(number)
        with self._contexts.active(context):
            yield thing
            del thing

    def around(self, address: int) -> Tuple[int, Any]:
        """The start and the array of the host memory that `address` is in."""
        for start, (array, _) in list(self._objects.items()):
            if start <= address < start + array.nbytes:
                return start, array
        raise self._unknown(address)

    def _unknown(self, number: int) -> BackendError:
        return BackendError(f"pycuda: {number:#x} is no {self._what} of this process, or no longer")


class _Calls:
    """What every part shares: the driver module, contexts, and objects by number."""

    def __init__(self, driver: Any, version: str) -> None:
        self.name = f"pycuda {version}"
        self._driver = driver
        self._contexts = _Contexts(driver)
        self._device_memory = _Kept(self._contexts, "device memory")
        self._host_memory = _Kept(self._contexts, "pinned host memory")
        self._streams = _Kept(self._contexts, "stream")
        self._events = _Kept(self._contexts, "event")
        self._numbers = itertools.count(1)
        atexit.register(self._contexts.close)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as error:
            call, _, text = str(error).partition(" failed: ")
            raise cuda_error_from_text(call, text) from error


class _Devices(_Calls):
    def driver_version(self) -> int:
        with self._translated():
            return int(self._driver.get_driver_version())

    def runtime_version(self) -> int:
        major, minor, patch = self._driver.get_version()
        return int(major * 1000 + minor * 10 + patch)

    def device_count(self) -> int:
        with self._translated():
            self._driver.init()  # the second time it does nothing
            return int(self._driver.Device.count())

    def attributes(self, device: int) -> DeviceAttributes:
        with self._translated():
            self._driver.init()
            found = self._driver.Device(device)
            major, minor = found.compute_capability()
            return DeviceAttributes(
                name=found.name(),
                compute_capability=(int(major), int(minor)),
                is_integrated=bool(found.get_attribute(self._driver.device_attribute.INTEGRATED)),
                can_map_host=bool(found.get_attribute(self._driver.device_attribute.CAN_MAP_HOST_MEMORY)),
                can_register_host=False,
                has_concurrent_managed=bool(
                    found.get_attribute(self._driver.device_attribute.CONCURRENT_MANAGED_ACCESS)
                ),
                total_nbytes=int(found.total_memory()),
            )

    def use_device(self, device: int) -> None:
        with self._translated():
            self._driver.init()
            self._contexts.use(device)

    def memory_info(self) -> MemoryInfo:
        with self._translated():
            return MemoryInfo(*map(int, self._driver.mem_get_info()))

    def synchronize_device(self) -> None:
        with self._translated():
            self._driver.Context.synchronize()

    def check(self) -> None:
        """Nothing is left behind: the driver API tells each error once, and a dead context tells it again."""


class _Memory(_Calls):
    def allocate_device(self, nbytes: int) -> int:
        with self._translated():
            allocation = self._driver.mem_alloc(nbytes)
            return self._device_memory.add(int(allocation), allocation)

    def free_device(self, address: int) -> None:
        with self._translated(), self._device_memory.taken(address) as allocation:
            allocation.free()

    def allocate_host(self, nbytes: int, mapped: bool) -> int:
        flags = self._driver.host_alloc_flags
        chosen = flags.PORTABLE | (flags.DEVICEMAP if mapped else 0)
        with self._translated():
            array = self._driver.pagelocked_empty(nbytes, "uint8", mem_flags=chosen)
            return self._host_memory.add(array.ctypes.data, array)

    def free_host(self, address: int) -> None:
        with self._translated(), self._host_memory.taken(address) as array:
            array.base.free()

    def register_host(self, address: int, nbytes: int, mapped: bool) -> None:
        raise BackendError(
            f"{self.name} can't register {nbytes:,} bytes at {address:#x}{' mapped' if mapped else ''}; "
            "allocate pinned memory and copy, or install cuda-python"
        )

    def unregister_host(self, address: int) -> None:
        raise BackendError(f"{self.name}: {address:#x} isn't registered; it can't register memory")

    def device_address(self, host_address: int) -> int:
        with self._translated():
            start, array = self._host_memory.around(host_address)
            return int(array.base.get_device_pointer()) + host_address - start


class _Streams(_Calls):
    def create_stream(self) -> int:
        with self._translated():
            stream = self._driver.Stream(_NON_BLOCKING)
            return self._streams.add(int(stream.handle), stream)

    def destroy_stream(self, stream: int) -> None:
        with self._translated(), self._streams.taken(stream):
            pass

    def synchronize_stream(self, stream: int) -> None:
        with self._translated():
            self._streams.get(stream).synchronize()

    def copy_async(self, destination: int, source: int, nbytes: int, kind: CopyKind, stream: int) -> None:
        queue = self._streams.get(stream)
        with self._translated():
            if kind is CopyKind.HOST_TO_DEVICE:
                self._driver.memcpy_htod_async(destination, host_bytes(source, nbytes), queue)
            elif kind is CopyKind.DEVICE_TO_HOST:
                self._driver.memcpy_dtoh_async(host_bytes(destination, nbytes), source, queue)
            else:
                self._driver.memcpy_dtod_async(destination, source, nbytes, queue)

    def fill_async(self, address: int, value: int, nbytes: int, stream: int) -> None:
        with self._translated():
            self._driver.memset_d8_async(address, value, nbytes, self._streams.get(stream))

    def wait_event(self, stream: int, event: int) -> None:
        with self._translated():
            self._streams.get(stream).wait_for_event(self._events.get(event))


class _Events(_Calls):
    def create_event(self, timing: bool, blocking: bool = False) -> int:
        flags = self._driver.event_flags
        chosen = (0 if timing else flags.DISABLE_TIMING) | (flags.BLOCKING_SYNC if blocking else 0)
        with self._translated():
            return self._events.add(next(self._numbers), self._driver.Event(chosen))

    def destroy_event(self, event: int) -> None:
        with self._translated(), self._events.taken(event):
            pass

    def record_event(self, event: int, stream: int) -> None:
        with self._translated():
            self._events.get(event).record(self._streams.get(stream))

    def synchronize_event(self, event: int) -> None:
        with self._translated():
            self._events.get(event).synchronize()

    def is_event_done(self, event: int) -> bool:
        with self._translated():
            return bool(self._events.get(event).query())

    def elapsed_ms(self, start: int, end: int) -> float:
        with self._translated():
            return float(self._events.get(end).time_since(self._events.get(start)))


class _Graphs(_Calls):
    has_graphs = False

    def _refuse(self, *_: int, **__: int) -> NoReturn:
        raise unsupported_graphs(self.name)

    begin_capture = end_capture = abandon_capture = launch_graph = destroy_graph = _refuse


class PyCuda(_Devices, _Memory, _Streams, _Events, _Graphs):
    """The port over a module with the names of `pycuda.driver`."""
