"""A module shaped like `cuda.bindings.runtime` over a FakeCuda: calls answer (status, values...)."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Tuple

from fakes.cuda import FakeCuda
from fakes.cuda_runtime import Attribute, CopyDirection, FakeRuntime, Handle

from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.errors import BackendError

_MAPPED = 2
_BLOCKING, _UNTIMED = 1, 2
_NOT_READY = 600


class Status(int):
    """A `cudaError_t`: all of CUDA's numbers, with their names."""

    name = "cudaSuccess"


class BoardRuntime(FakeRuntime):
    """FakeRuntime checks the arguments; what a call does and gives is the FakeCuda's.

    A FakeCuda ends a capture with a graph that can be launched, which is here what instantiating gives.
    """

    def __init__(self, cuda: FakeCuda, version: int) -> None:
        super().__init__()
        self.cuda = cuda
        self._version = version
        self._status_now = Status(0)
        self._text = "no error"
        self._unused_graphs: Dict[int, None] = {}

    def cudaGetLastError(self) -> Tuple[Any]:
        last, self._status_now = self._status_now, Status(0)
        return (last,)

    def cudaGetErrorString(self, status: Any) -> Tuple[Any, bytes]:
        return Status(0), self._text.encode()

    def cudaDeviceGetAttribute(self, attribute: Attribute, device: int) -> Tuple[Any, Any]:
        assert isinstance(attribute, Attribute)
        found = self.cuda.attributes(device)
        return Status(0), {
            Attribute.cudaDevAttrIntegrated: int(found.is_integrated),
            Attribute.cudaDevAttrCanMapHostMemory: int(found.can_map_host),
            Attribute.cudaDevAttrComputeCapabilityMajor: found.compute_capability[0],
            Attribute.cudaDevAttrComputeCapabilityMinor: found.compute_capability[1],
            Attribute.cudaDevAttrConcurrentManagedAccess: int(found.has_concurrent_managed),
            Attribute.cudaDevAttrHostRegisterSupported: int(found.can_register_host),
        }[attribute]

    def cudaGetDeviceProperties(self, device: int) -> Tuple[Any, Any]:
        found = self.cuda.attributes(device)
        _, properties = super().cudaGetDeviceProperties(device)
        properties.name, properties.totalGlobalMem = found.name.encode() + b"\0", found.total_nbytes
        return Status(0), properties

    def _answer(self, name: str, arguments: Tuple[Any, ...]) -> Tuple[Any, ...]:
        scripted = super()._answer(name, arguments)
        self.calls.clear()
        empty = (None,) * (len(scripted) - 1)
        try:
            found = self._do()[name](*arguments)
        except BackendError as error:
            return (self._failed(error), *empty)
        if isinstance(found, Status):
            return (found,)
        return (Status(0), *(found if isinstance(found, tuple) else (found,))) if empty else (Status(0),)

    def _failed(self, error: BackendError) -> Status:
        match = re.search(r"(\w+) \((\d+)\)(?:: ([^;]*))?", str(error))
        assert match is not None, f"no number of CUDA's in {error}"
        self._status_now = Status(int(match.group(2)))
        self._status_now.name, self._text = match.group(1), match.group(3) or ""
        return self._status_now

    def _do(self) -> Dict[str, Callable[..., Any]]:
        """What each function does."""
        cuda = self.cuda
        return {
            "cudaDriverGetVersion": lambda: self._version,
            "cudaRuntimeGetVersion": lambda: self._version,
            "cudaGetDeviceCount": cuda.device_count,
            "cudaSetDevice": cuda.use_device,
            "cudaMemGetInfo": lambda: tuple(cuda.memory_info()),
            "cudaDeviceSynchronize": cuda.synchronize_device,
            "cudaMalloc": cuda.allocate_device,
            "cudaFree": cuda.free_device,
            "cudaHostAlloc": lambda nbytes, flags: cuda.allocate_host(nbytes, bool(flags & _MAPPED)),
            "cudaFreeHost": cuda.free_host,
            "cudaHostRegister": lambda at, nbytes, flags: cuda.register_host(at, nbytes, bool(flags & _MAPPED)),
            "cudaHostUnregister": cuda.unregister_host,
            "cudaHostGetDevicePointer": lambda at, flags: cuda.device_address(at),
            "cudaStreamCreateWithFlags": lambda flags: Handle(cuda.create_stream()),
            "cudaStreamDestroy": cuda.destroy_stream,
            "cudaStreamSynchronize": cuda.synchronize_stream,
            "cudaMemcpyAsync": self._copy,
            "cudaMemsetAsync": cuda.fill_async,
            "cudaStreamWaitEvent": lambda stream, event, flags: cuda.wait_event(stream, event),
            "cudaEventCreateWithFlags": self._event,
            "cudaEventDestroy": cuda.destroy_event,
            "cudaEventRecord": cuda.record_event,
            "cudaEventSynchronize": cuda.synchronize_event,
            "cudaEventQuery": lambda event: Status(0 if cuda.is_event_done(event) else _NOT_READY),
            "cudaEventElapsedTime": cuda.elapsed_ms,
            "cudaStreamBeginCapture": lambda stream, mode: cuda.begin_capture(stream),
            "cudaStreamEndCapture": self._end_capture,
            "cudaGraphInstantiateWithFlags": self._instantiate,
            "cudaGraphDestroy": self._drop_graph,
            "cudaGraphLaunch": cuda.launch_graph,
            "cudaGraphExecDestroy": cuda.destroy_graph,
        }

    def _copy(self, destination: int, source: int, nbytes: int, kind: CopyDirection, stream: int) -> None:
        self.cuda.copy_async(destination, source, nbytes, CopyKind(int(kind)), stream)

    def _event(self, flags: int) -> Handle:
        return Handle(self.cuda.create_event(not flags & _UNTIMED, bool(flags & _BLOCKING)))

    def _end_capture(self, stream: int) -> Handle:
        graph = self.cuda.end_capture(stream)
        self._unused_graphs[graph] = None
        return Handle(graph)

    def _instantiate(self, graph: Handle, flags: int) -> Handle:
        del self._unused_graphs[int(graph)]
        return Handle(int(graph))

    def _drop_graph(self, graph: Handle) -> None:
        if int(graph) in self._unused_graphs:
            del self._unused_graphs[int(graph)]
            self.cuda.destroy_graph(int(graph))
