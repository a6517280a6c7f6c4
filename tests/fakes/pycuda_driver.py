"""A module shaped like `pycuda.driver`, on host memory; work is done when it is put on a stream.

As the real one it keeps a stack of contexts a thread, refuses what needs one where there is none, and can give an
object back only where the context that it was made in is current. `stacks` tells what each thread left pushed, which
the real one answers by ending the process.
"""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np


class Error(Exception):
    """pycuda's root of errors; the real one has subclasses by kind."""


class FakePycuda:
    """One such module. `problem` lets the next call fail with that text; `alive` counts what wasn't given back."""

    Error = Error
    host_alloc_flags = SimpleNamespace(PORTABLE=1, DEVICEMAP=2, WRITECOMBINED=4)
    event_flags = SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)
    device_attribute = SimpleNamespace(INTEGRATED=18, CAN_MAP_HOST_MEMORY=19, CONCURRENT_MANAGED_ACCESS=89)

    def __init__(self) -> None:
        self.problem = ""
        self.alive = 0
        self.released: List[int] = []
        self.stacks: Dict[int, List[FakeContext]] = {}
        self.memory: Dict[int, np.ndarray[Any, Any]] = {}
        self.is_ready = False
        self.Device = type("Device", (FakeDevice,), {"module": self, "count": staticmethod(self._count)})
        self.Context = SimpleNamespace(synchronize=lambda: self.current("cuCtxSynchronize"))
        self.Stream = lambda flags: FakeStream(self, flags)
        self.Event = lambda flags: FakeEvent(self, flags)
        self.addresses = itertools.count(0x1000, 0x1000)

    def init(self) -> None:
        self.fail("cuInit")
        self.is_ready = True

    def get_driver_version(self) -> int:
        return 11040

    def get_version(self) -> tuple[int, int, int]:
        return 11, 4, 0

    def mem_get_info(self) -> tuple[int, int]:
        self.current("cuMemGetInfo")
        return 3, 8

    def mem_alloc(self, nbytes: int) -> FakeAllocation:
        return FakeAllocation(self, nbytes)

    def pagelocked_empty(self, shape: int, dtype: str, mem_flags: int = 0) -> np.ndarray[Any, Any]:
        owner = FakeHostAllocation(self, shape, mem_flags)
        return np.asarray(owner)

    def memcpy_htod_async(self, dest: int, src: Any, stream: FakeStream) -> None:
        stream.use("cuMemcpyHtoDAsync")
        view = memoryview(src)
        self.memory[dest][: view.nbytes] = np.frombuffer(view, np.uint8)

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: FakeStream) -> None:
        stream.use("cuMemcpyDtoHAsync")
        np.frombuffer(memoryview(dest), np.uint8)[:] = self.memory[src][: memoryview(dest).nbytes]

    def memcpy_dtod_async(self, dest: int, src: int, size: int, stream: FakeStream) -> None:
        stream.use("cuMemcpyDtoDAsync")
        self.memory[dest][:size] = self.memory[src][:size]

    def memset_d8_async(self, dest: int, data: int, size: int, stream: FakeStream) -> None:
        stream.use("cuMemsetD8Async")
        self.memory[dest][:size] = data

    def fail(self, call: str) -> None:
        if self.problem:
            self.problem, problem = "", self.problem
            raise Error(f"{call} failed: {problem}")

    def stack(self) -> List[FakeContext]:
        return self.stacks.setdefault(threading.get_ident(), [])

    def current(self, call: str) -> FakeContext:
        self.fail(call)
        if not self.stack():
            raise Error(f"{call} failed: invalid device context")
        return self.stack()[-1]

    def _count(self) -> int:
        assert self.is_ready
        self.fail("cuDeviceGetCount")
        return 1


class FakeDevice:
    module: FakePycuda

    def __init__(self, ordinal: int) -> None:
        assert self.module.is_ready
        if ordinal:
            raise Error("cuDeviceGet failed: invalid device ordinal")

    def name(self) -> str:
        return "Xavier"

    def compute_capability(self) -> tuple[int, int]:
        return 7, 2

    def total_memory(self) -> int:
        return 8 << 30

    def get_attribute(self, attribute: int) -> int:
        return int(attribute != 89)

    def retain_primary_context(self) -> FakeContext:
        return FakeContext(self.module)


class FakeContext:
    def __init__(self, module: FakePycuda) -> None:
        self._module = module

    def push(self) -> None:
        self._module.stack().append(self)

    def pop(self) -> None:
        assert self._module.stack().pop() is self

    def detach(self) -> None:
        assert self not in self._module.stack()
        self._module.released.append(1)


class FakeOwned:
    """What belongs to the context that it is made in; `give_back` happens once."""

    def __init__(self, module: FakePycuda, call: str) -> None:
        self._module = module
        self._context = module.current(call)
        self._is_alive = True
        module.alive += 1

    def give_back(self) -> None:
        assert self._is_alive
        assert self._module.stack()[-1:] == [self._context], "its context isn't current: pycuda would leak it"
        self._is_alive = False
        self._module.alive -= 1

    def use(self, call: str) -> None:
        assert self._is_alive
        self._module.current(call)

    def __del__(self) -> None:
        if getattr(self, "_is_alive", False) and self._module.stack()[-1:] == [self._context]:
            self.give_back()


class FakeAllocation(FakeOwned):
    def __init__(self, module: FakePycuda, nbytes: int) -> None:
        super().__init__(module, "cuMemAlloc")
        self._address = next(module.addresses)
        module.memory[self._address] = np.zeros(nbytes, np.uint8)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self.give_back()
        del self._module.memory[self._address]


class FakeHostAllocation(FakeOwned):
    def __init__(self, module: FakePycuda, nbytes: int, flags: int) -> None:
        super().__init__(module, "cuMemHostAlloc")
        self.flags = flags
        self._content = np.zeros(nbytes, np.uint8)
        self.__array_interface__ = self._content.__array_interface__

    def free(self) -> None:
        self.give_back()

    def get_device_pointer(self) -> int:
        if not self.flags & 2:
            raise Error("cuMemHostGetDevicePointer failed: invalid argument")
        return 0xA000


class FakeStream(FakeOwned):
    def __init__(self, module: FakePycuda, flags: int) -> None:
        super().__init__(module, "cuStreamCreate")
        assert flags == 1, "it would wait for the default stream"
        self.handle = next(module.addresses)

    def synchronize(self) -> None:
        self.use("cuStreamSynchronize")

    def wait_for_event(self, event: FakeEvent) -> None:
        self.use("cuStreamWaitEvent")
        event.use("cuStreamWaitEvent")


class FakeEvent(FakeOwned):
    def __init__(self, module: FakePycuda, flags: int) -> None:
        super().__init__(module, "cuEventCreate")
        self.flags = flags

    def record(self, stream: FakeStream) -> None:
        self.use("cuEventRecord")
        stream.use("cuEventRecord")

    def synchronize(self) -> None:
        self.use("cuEventSynchronize")

    def query(self) -> bool:
        self.use("cuEventQuery")
        return True

    def time_since(self, start: FakeEvent) -> float:
        assert not (self.flags | start.flags) & 2
        return 1.5
