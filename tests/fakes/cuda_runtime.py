"""A module shaped like `cuda.bindings.runtime`: it checks what it is given and answers (status, values...).

Its enumerations, constants and argument types are those of the real bindings: an enumeration where they take one, not
its number. What it answers is scripted: handles count up, and `answers` overrides a call's next status.
"""

from __future__ import annotations

import enum
import itertools
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

Status = enum.IntEnum(
    "Status",
    {
        "cudaSuccess": 0,
        "cudaErrorInvalidValue": 1,
        "cudaErrorMemoryAllocation": 2,
        "cudaErrorInsufficientDriver": 35,
        "cudaErrorNoDevice": 100,
        "cudaErrorNotReady": 600,
        "cudaErrorIllegalAddress": 700,
        "cudaErrorStreamCaptureInvalidated": 901,
    },
)


Attribute = enum.IntEnum(
    "Attribute",
    {
        "cudaDevAttrIntegrated": 18,
        "cudaDevAttrCanMapHostMemory": 19,
        "cudaDevAttrComputeCapabilityMajor": 75,
        "cudaDevAttrComputeCapabilityMinor": 76,
        "cudaDevAttrConcurrentManagedAccess": 89,
        "cudaDevAttrHostRegisterSupported": 99,
    },
)


CopyDirection = enum.IntEnum(
    "CopyDirection",
    {
        "cudaMemcpyHostToHost": 0,
        "cudaMemcpyHostToDevice": 1,
        "cudaMemcpyDeviceToHost": 2,
        "cudaMemcpyDeviceToDevice": 3,
    },
)


CaptureMode = enum.IntEnum(
    "CaptureMode",
    {
        "cudaStreamCaptureModeGlobal": 0,
        "cudaStreamCaptureModeThreadLocal": 1,
        "cudaStreamCaptureModeRelaxed": 2,
    },
)


class Handle:
    """A stream, an event or a graph as the bindings give it: an object that is an int on request."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number


# Each function's argument types, and what it gives: "handle" is a Handle, "address" an int, "" nothing.
_FUNCTIONS: Dict[str, Tuple[Tuple[type, ...], Any]] = {
    "cudaDriverGetVersion": ((), 12040),
    "cudaRuntimeGetVersion": ((), 12090),
    "cudaGetDeviceCount": ((), 1),
    "cudaSetDevice": ((int,), ""),
    "cudaMemGetInfo": ((), (3, 8)),
    "cudaDeviceSynchronize": ((), ""),
    "cudaMalloc": ((int,), "address"),
    "cudaFree": ((int,), ""),
    "cudaHostAlloc": ((int, int), "address"),
    "cudaFreeHost": ((int,), ""),
    "cudaHostRegister": ((int, int, int), ""),
    "cudaHostUnregister": ((int,), ""),
    "cudaHostGetDevicePointer": ((int, int), "address"),
    "cudaStreamCreateWithFlags": ((int,), "handle"),
    "cudaStreamDestroy": ((int,), ""),
    "cudaStreamSynchronize": ((int,), ""),
    "cudaMemcpyAsync": ((int, int, int, CopyDirection, int), ""),
    "cudaMemsetAsync": ((int, int, int, int), ""),
    "cudaStreamWaitEvent": ((int, int, int), ""),
    "cudaEventCreateWithFlags": ((int,), "handle"),
    "cudaEventDestroy": ((int,), ""),
    "cudaEventRecord": ((int, int), ""),
    "cudaEventSynchronize": ((int,), ""),
    "cudaEventQuery": ((int,), ""),
    "cudaEventElapsedTime": ((int, int), 1.5),
    "cudaStreamBeginCapture": ((int, CaptureMode), ""),
    "cudaStreamEndCapture": ((int,), "handle"),
    "cudaGraphInstantiateWithFlags": ((Handle, int), "handle"),
    "cudaGraphDestroy": ((Handle,), ""),
    "cudaGraphLaunch": ((int, int), ""),
    "cudaGraphExecDestroy": ((int,), ""),
}


ENUMERATIONS = {
    "cudaError_t": Status,
    "cudaDeviceAttr": Attribute,
    "cudaMemcpyKind": CopyDirection,
    "cudaStreamCaptureMode": CaptureMode,
}
CONSTANTS = {
    "cudaHostAllocPortable": 1,
    "cudaHostAllocMapped": 2,
    "cudaHostRegisterPortable": 1,
    "cudaHostRegisterMapped": 2,
    "cudaStreamNonBlocking": 1,
    "cudaEventBlockingSync": 1,
    "cudaEventDisableTiming": 2,
}


class FakeRuntime:
    """One such module; `calls` holds each call's name and arguments, `last` the error that nobody fetched."""

    def __init__(self) -> None:
        self.calls: List[Tuple[Any, ...]] = []
        self.answers: Dict[str, int | Exception] = {}
        self.last = Status.cudaSuccess
        self._numbers = itertools.count(0x100, 0x10)

    def __getattr__(self, name: str) -> Any:
        if name in ENUMERATIONS or name in CONSTANTS:
            return ENUMERATIONS.get(name) or CONSTANTS[name]
        if name not in _FUNCTIONS:
            raise AttributeError(name)
        return lambda *arguments: self._answer(name, arguments)

    def cudaGetLastError(self) -> Tuple[Status]:
        last, self.last = self.last, Status.cudaSuccess
        return (last,)

    def cudaGetErrorString(self, status: Status) -> Tuple[Status, bytes]:
        return Status.cudaSuccess, {2: b"out of memory", 100: b"no CUDA-capable device is detected"}.get(status, b"?")

    def cudaDeviceGetAttribute(self, attribute: Attribute, device: int) -> Tuple[Status, int | None]:
        assert isinstance(attribute, Attribute)
        values = {Attribute.cudaDevAttrComputeCapabilityMajor: 8, Attribute.cudaDevAttrComputeCapabilityMinor: 7}
        return self._status("cudaDeviceGetAttribute"), values.get(attribute, int(attribute != 89))

    def cudaGetDeviceProperties(self, device: int) -> Tuple[Status, Any]:
        return self._status("cudaGetDeviceProperties"), SimpleNamespace(name=b"Orin\0\0\0", totalGlobalMem=8 << 30)

    def _answer(self, name: str, arguments: Tuple[Any, ...]) -> Tuple[Any, ...]:
        types, gives = _FUNCTIONS[name]
        assert [type(argument) for argument in arguments] == list(types), f"{name}{arguments}"
        self.calls.append((name, *arguments))
        status = self._status(name)
        if gives == "":
            return (status,)
        if status:
            return (status, *[None] * (2 if isinstance(gives, tuple) else 1))
        if isinstance(gives, tuple):
            return (status, *gives)
        if gives in ("handle", "address"):
            number = next(self._numbers)
            return status, Handle(number) if gives == "handle" else number
        return status, gives

    def _status(self, name: str) -> Status:
        answer = self.answers.pop(name, 0)
        if isinstance(answer, Exception):
            raise answer
        if answer:
            self.last = Status(answer)
        return Status(answer)
