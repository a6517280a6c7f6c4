"""Memory with an owner: on the device, pinned on the host, and registered for a time."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.device.cuda.owned import Owned
from edge_runtime.device.cuda.port import Cuda
from edge_runtime.errors import BackendError
from edge_runtime.tensors import element_count

Array = npt.NDArray[Any]


class DeviceBuffer(Owned):
    """Device memory, aligned to at least 256 bytes; its contents are undefined at first.

    One of no bytes has an address too, as TensorRT wants it. Wait for the work that uses it before closing it.

    Raises:
        BackendError: there isn't as much memory.
    """

    def __init__(self, cuda: Cuda, nbytes: int, name: str = "") -> None:
        self.nbytes = _checked(nbytes)
        super().__init__(_label("device buffer", name, nbytes), cuda.allocate_device(max(nbytes, 1)), cuda.free_device)

    @property
    def address(self) -> int:
        """Where it is, for kernels and copies."""
        return self._open_handle()


class HostBuffer(Owned):
    """Pinned host memory, aligned to at least 256 bytes; kernels reach it if it is `mapped`.

    Arrays of it keep its memory: `close` with arrays alive forbids new ones, and the memory is given back when the
    last array is gone. So nothing ever reads memory that is unmapped, and closing never fails for a forgotten view.

    Raises:
        BackendError: there isn't as much memory, or the device can't map it.
    """

    def __init__(self, cuda: Cuda, nbytes: int, mapped: bool = False, name: str = "") -> None:
        self.nbytes = _checked(nbytes)
        self.is_mapped = mapped
        self._cuda = cuda
        super().__init__(
            _label("mapped host buffer" if mapped else "host buffer", name, nbytes),
            cuda.allocate_host(max(nbytes, 1), mapped),
            cuda.free_host,
        )

    @property
    def address(self) -> int:
        """Where it is for the CPU."""
        return self._open_handle()

    @property
    def device_address(self) -> int:
        """Where it is for kernels.

        Raises:
            BackendError: it isn't mapped, or is closed.
        """
        return _device_address(self._cuda, self, self.is_mapped, self._open_handle())

    def array(self, dtype: npt.DTypeLike, shape: Sequence[int], offset: int = 0) -> Array:
        """A writable view, `offset` bytes in; it keeps the memory for as long as it, or a view of it, is alive.

        Raises:
            BackendError: it doesn't fit, or the buffer is closed.
        """
        kind = np.dtype(dtype)
        end = offset + element_count(shape) * kind.itemsize
        if offset < 0 or end > self.nbytes:
            raise BackendError(f"{self.what}: expected a view within {self.nbytes:,} bytes, got {offset:,} to {end:,}")
        span = _Span(self._open_handle() + offset, end - offset)
        self._lease.hold(span)
        return np.asarray(span).view(kind).reshape(shape)


class RegisteredBuffer(Owned):
    """Somebody else's memory, pinned for as long as this is open; the memory is kept alive as long.

    `buffer` is anything writable and contiguous with Python's buffer interface: an array, a bytearray, an mmap (which
    refuses to be closed meanwhile). One of no bytes is left alone.

    Raises:
        BackendError: it is read-only or not contiguous, the device can't register memory, or part of it is registered.
    """

    def __init__(self, cuda: Cuda, buffer: Any, mapped: bool = False, name: str = "") -> None:
        view = memoryview(buffer)
        what = _label("registered buffer", name, view.nbytes)
        if view.readonly or not view.c_contiguous:
            state = "read-only" if view.readonly else "not contiguous"
            raise BackendError(f"{what}: expected writable, contiguous memory, got some that is {state}; copy it first")
        self.nbytes = view.nbytes
        self.is_mapped = mapped
        self._cuda = cuda
        self._memory: Array | None = np.asarray(view)
        address = self._memory.ctypes.data
        if view.nbytes:
            cuda.register_host(address, view.nbytes, mapped)
        super().__init__(what, address, cuda.unregister_host if view.nbytes else _leave)

    @property
    def address(self) -> int:
        """Where it is for the CPU."""
        return self._open_handle()

    @property
    def device_address(self) -> int:
        """Where it is for kernels.

        Raises:
            BackendError: it isn't mapped, or is closed.
        """
        address = self._open_handle()
        return _device_address(self._cuda, self, self.is_mapped, address) if self.nbytes else address

    def close(self) -> None:
        """Ends the registration and lets go of the memory; does nothing the second time.

        Raises:
            BackendError: CUDA refused; it counts as closed all the same.
        """
        try:
            super().close()
        finally:
            self._memory = None


class _Span:
    """An address as NumPy takes it: the array made of it keeps this object, and so whatever waits for its end."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__array_interface__ = {"shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3}


def host_bytes(address: int, nbytes: int) -> Array:
    """The bytes at a host address, writable; nothing keeps the memory alive."""
    return np.asarray(_Span(address, nbytes))


def _device_address(cuda: Cuda, owner: Owned, is_mapped: bool, address: int) -> int:
    if not is_mapped:
        raise BackendError(f"{owner.what}: no kernel can reach it; make it with mapped=True")
    return cuda.device_address(address)


def _checked(nbytes: int) -> int:
    if nbytes < 0:
        raise BackendError(f"a buffer: expected 0 bytes or more, got {nbytes:,}")
    return nbytes


def _label(kind: str, name: str, nbytes: int) -> str:
    return f"{kind}{f' {name!r}' if name else ''} of {nbytes:,} bytes"


def _leave(_: int) -> None:
    pass
