"""CUDA through cuda-python: the runtime bindings of 11.x, 12.x and 13.x, with graphs."""

from __future__ import annotations

import contextlib
import functools
import importlib
from importlib import metadata
from typing import Any

from edge_runtime.device.cuda.failures import NOT_READY, STICKY, SUCCESS, cuda_error
from edge_runtime.device.cuda.port import CopyKind, DeviceAttributes, MemoryInfo
from edge_runtime.errors import BackendError, BackendUnavailableError

_MODULES = ("cuda.bindings.runtime", "cuda.cudart")  # the second is the only one before 11.8.4 and 12.6.1
_DISTRIBUTIONS = ("cuda-bindings", "cuda-python")
_NO_DRIVER = "the NVIDIA driver is missing, or older than this cuda-python"


@functools.lru_cache(maxsize=None)
def load_cuda_python() -> CudaPython:
    """The process's adapter over the installed bindings; no device is touched.

    Raises:
        BackendUnavailableError: there are none.
    """
    causes = []
    for name in _MODULES:
        try:
            return CudaPython(importlib.import_module(name), _version())
        except ImportError as error:
            causes.append(str(error))
    raise BackendUnavailableError(f"cuda-python can't be imported ({causes[0]}); pip install cuda-python")


def _version() -> str:
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "of unknown version"


class _Calls:
    """Calls of the bindings: each returns a status and values; a status that isn't success is raised."""

    def __init__(self, runtime: Any, version: str) -> None:
        self.name = f"cuda-python {version}"
        self._runtime = runtime

    def _call(self, function: str, *arguments: Any) -> Any:
        """The value that the call gave, a tuple of several, or None."""
        status, *values = self._answer(function, *arguments)
        if status != SUCCESS:
            self._answer("cudaGetLastError")  # reported here: nobody else may find it there
            raise self._failure(function, status)
        return values[0] if len(values) == 1 else tuple(values) or None

    def _answer(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._runtime, function)(*arguments)
        except (
            RuntimeError
        ) as error:  # bindings before 12.8 raise this where the driver lacks a function, or is missing
            raise BackendUnavailableError(f"{function}: {error}; {_NO_DRIVER}") from error
        except ValueError as error:  # the driver is newer than the bindings, and so is its error number
            raise BackendError(f"{function}: {error}; update cuda-python") from error

    def _failure(self, function: str, status: Any) -> BackendError:
        text = ""
        with contextlib.suppress(RuntimeError):
            text = self._runtime.cudaGetErrorString(status)[1].decode()
        return cuda_error(function, int(status), getattr(status, "name", "cudaError"), text)


class _Devices(_Calls):
    def driver_version(self) -> int:
        try:
            return int(self._call("cudaDriverGetVersion"))
        except BackendUnavailableError:
            return 0

    def runtime_version(self) -> int:
        return int(self._call("cudaRuntimeGetVersion"))

    def device_count(self) -> int:
        return int(self._call("cudaGetDeviceCount"))

    def attributes(self, device: int) -> DeviceAttributes:
        properties = self._call("cudaGetDeviceProperties", device)  # only for what no attribute says
        return DeviceAttributes(
            name=properties.name.split(b"\0")[0].decode(errors="replace"),
            compute_capability=(
                self._attribute("cudaDevAttrComputeCapabilityMajor", device),
                self._attribute("cudaDevAttrComputeCapabilityMinor", device),
            ),
            is_integrated=bool(self._attribute("cudaDevAttrIntegrated", device)),
            can_map_host=bool(self._attribute("cudaDevAttrCanMapHostMemory", device)),
            can_register_host=bool(self._attribute("cudaDevAttrHostRegisterSupported", device)),
            has_concurrent_managed=bool(self._attribute("cudaDevAttrConcurrentManagedAccess", device)),
            total_nbytes=int(properties.totalGlobalMem),
        )

    def use_device(self, device: int) -> None:
        self._call("cudaSetDevice", device)

    def memory_info(self) -> MemoryInfo:
        return MemoryInfo(*map(int, self._call("cudaMemGetInfo")))

    def synchronize_device(self) -> None:
        self._call("cudaDeviceSynchronize")

    def check(self) -> None:
        self._call("cudaGetLastError")

    def _attribute(self, name: str, device: int) -> int:
        return int(self._call("cudaDeviceGetAttribute", getattr(self._runtime.cudaDeviceAttr, name), device))


class _Memory(_Calls):
    def allocate_device(self, nbytes: int) -> int:
        return int(self._call("cudaMalloc", nbytes))

    def free_device(self, address: int) -> None:
        self._call("cudaFree", address)

    def allocate_host(self, nbytes: int, mapped: bool) -> int:
        flags = self._runtime.cudaHostAllocPortable | (self._runtime.cudaHostAllocMapped if mapped else 0)
        return int(self._call("cudaHostAlloc", nbytes, flags))

    def free_host(self, address: int) -> None:
        self._call("cudaFreeHost", address)

    def register_host(self, address: int, nbytes: int, mapped: bool) -> None:
        flags = self._runtime.cudaHostRegisterPortable | (self._runtime.cudaHostRegisterMapped if mapped else 0)
        self._call("cudaHostRegister", address, nbytes, flags)

    def unregister_host(self, address: int) -> None:
        self._call("cudaHostUnregister", address)

    def device_address(self, host_address: int) -> int:
        return int(self._call("cudaHostGetDevicePointer", host_address, 0))


class _Streams(_Calls):
    def __init__(self, runtime: Any, version: str) -> None:
        super().__init__(runtime, version)
        names = ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice")
        self._kinds = {kind: getattr(runtime.cudaMemcpyKind, name) for kind, name in zip(CopyKind, names)}

    def create_stream(self) -> int:
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronize_stream(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def copy_async(self, destination: int, source: int, nbytes: int, kind: CopyKind, stream: int) -> None:
        self._call("cudaMemcpyAsync", destination, source, nbytes, self._kinds[kind], stream)

    def fill_async(self, address: int, value: int, nbytes: int, stream: int) -> None:
        self._call("cudaMemsetAsync", address, value, nbytes, stream)

    def wait_event(self, stream: int, event: int) -> None:
        self._call("cudaStreamWaitEvent", stream, event, 0)


class _Events(_Calls):
    def create_event(self, timing: bool, blocking: bool = False) -> int:
        flags = 0 if timing else self._runtime.cudaEventDisableTiming
        return int(
            self._call("cudaEventCreateWithFlags", flags | (self._runtime.cudaEventBlockingSync if blocking else 0))
        )

    def destroy_event(self, event: int) -> None:
        self._call("cudaEventDestroy", event)

    def record_event(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def synchronize_event(self, event: int) -> None:
        self._call("cudaEventSynchronize", event)

    def is_event_done(self, event: int) -> bool:
        (status,) = self._answer("cudaEventQuery", event)
        if status == NOT_READY:
            self._answer("cudaGetLastError")
            return False
        if status != SUCCESS:
            raise self._failure("cudaEventQuery", status)
        return True

    def elapsed_ms(self, start: int, end: int) -> float:
        return float(self._call("cudaEventElapsedTime", start, end))


class _Graphs(_Calls):
    has_graphs = True

    def begin_capture(self, stream: int) -> None:
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._instantiate(graph))
        finally:
            self._call("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        status, graph = self._answer("cudaStreamEndCapture", stream)
        self._answer("cudaGetLastError")
        if status in STICKY:
            raise self._failure("cudaStreamEndCapture", status)
        if status == SUCCESS:
            self._call("cudaGraphDestroy", graph)

    def launch_graph(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _instantiate(self, graph: Any) -> Any:
        # From 11.4 on. The older cudaGraphInstantiate takes other arguments in CUDA 11 than in 12.
        return self._call("cudaGraphInstantiateWithFlags", graph, 0)


class CudaPython(_Devices, _Memory, _Streams, _Events, _Graphs):
    """The port over a module with the names of `cuda.bindings.runtime`."""
