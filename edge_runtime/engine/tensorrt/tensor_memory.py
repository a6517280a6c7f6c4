"""The memory of one input or output: pinned for the CPU and, unless it is mapped, a copy of it for the GPU."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Callable, List

import numpy as np
import numpy.typing as npt

from edge_runtime.device.cuda.memory import DeviceBuffer, HostBuffer
from edge_runtime.device.cuda.port import CopyKind, Cuda
from edge_runtime.device.cuda.streams import Stream
from edge_runtime.engine.tensorrt.gpu_use import give_back
from edge_runtime.engine.tensorrt.memory_kind import MAPPED
from edge_runtime.engine.tensorrt.tensor_io import EngineTensor
from edge_runtime.errors import BackendError, DeviceLostError, InvalidRequestError
from edge_runtime.tensors import DType, Shape, element_count

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Copy:
    """One copy between host and device, ready to be put on a stream."""

    destination: int
    source: int
    nbytes: int
    kind: CopyKind

    def submit(self, stream: Stream) -> None:
        """Puts it on the stream."""
        stream.copy(self.destination, self.source, self.nbytes, self.kind)


def outgrown(what: str, nbytes: int) -> BackendError:
    """What is wrong if a tensor that goes from one part of a chain to another has no room."""
    return BackendError(
        f"{what}: {nbytes:,} bytes are more than it takes at the largest inputs; build it again, cut elsewhere"
    )


class TensorMemory:
    """Memory that grows to the largest shape seen. Callers see `dtype`, TensorRT computes with that of the tensor.

    Growing gives other addresses; what was there before is kept until `settle`, for a run may still use it. Memory
    that `is_lent` to a slot of another part of a chain, which knows its address, can't grow.
    """

    def __init__(
        self, cuda: Cuda, tensor: EngineTensor, dtype: DType, kind_of: Callable[[int], str], what: str
    ) -> None:
        self.tensor = tensor
        self.dtype = dtype
        self.address = 0
        self.is_lent = False
        self._cuda = cuda
        self._kind_of = kind_of
        self._what = f"{what}: tensor {tensor.name!r}"
        self._host: HostBuffer | None = None
        self._device: DeviceBuffer | None = None
        self._pinned: Array = np.empty(0, tensor.dtype.numpy)
        self._wide: Array | None = None
        self._retired: List[contextlib.ExitStack] = []
        self._owned = contextlib.ExitStack()

    @property
    def is_converted(self) -> bool:
        """Whether callers see another data type than TensorRT computes with."""
        return self.dtype is not self.tensor.dtype

    def nbytes(self, shape: Shape) -> int:
        """What TensorRT's values of a shape take."""
        return element_count(shape) * self.tensor.dtype.itemsize

    @property
    def capacity(self) -> int:
        """Bytes that there is room for."""
        return self._pinned.nbytes

    def fit(self, nbytes: int) -> bool:
        """Makes room for so many bytes; True if addresses changed.

        Raises:
            BackendError: there is too little memory.
        """
        if self._host is not None and nbytes <= self._pinned.nbytes:
            return False
        if self.is_lent:
            raise outgrown(self._what, nbytes)
        itemsize = self.tensor.dtype.itemsize
        nbytes = max(itemsize, -(-nbytes // itemsize) * itemsize)  # TensorRT takes no null pointer, even for nothing
        with contextlib.ExitStack() as owned:
            self._allocate(nbytes, owned)
            self._retired.append(self._owned)
            self._owned = owned.pop_all()
        return True

    def _allocate(self, nbytes: int, owned: contextlib.ExitStack) -> None:
        is_mapped = not self.tensor.is_host and self._kind_of(nbytes) == MAPPED
        try:
            host = HostBuffer(self._cuda, nbytes, is_mapped, self.tensor.name)
            owned.callback(give_back, host)
            device = None
            if not is_mapped and not self.tensor.is_host:
                device = DeviceBuffer(self._cuda, nbytes, self.tensor.name)
                owned.callback(give_back, device)
            pinned = host.array(self.tensor.dtype.numpy, (nbytes // self.tensor.dtype.itemsize,))
            wide = np.empty(pinned.size, self.dtype.numpy) if self.is_converted else None
            address = host.address if self.tensor.is_host else device.address if device else host.device_address
        except DeviceLostError:
            raise
        except (BackendError, MemoryError) as error:
            raise BackendError(
                f"{self._what}: {nbytes:,} bytes can't be had ({error}); build it for smaller shapes"
            ) from error
        self._host, self._device, self._pinned, self._wide, self.address = host, device, pinned, wide, address

    def view(self, shape: Shape) -> Array:
        """The memory as callers see it, for a shape that it has room for."""
        memory = self._pinned if self._wide is None else self._wide
        return memory[: element_count(shape)].reshape(shape)

    def values(self, shape: Shape) -> Array:
        """The memory as TensorRT sees it on the host."""
        return self._pinned[: element_count(shape)].reshape(shape)

    def narrow(self, shape: Shape) -> None:
        """Gives TensorRT what the caller wrote, in its own data type.

        Raises:
            InvalidRequestError: a value has no place in it.
        """
        values = self.view(shape)
        if not self.dtype.is_float and values.size:
            limits = np.iinfo(self.tensor.dtype.numpy)
            low, high = values.min(), values.max()
            if low < limits.min or high > limits.max:
                raise InvalidRequestError(
                    f"input {self.tensor.name!r}: expected values of {self.tensor.dtype.value}, with which this "
                    f"TensorRT computes, got {low if low < limits.min else high}"
                )
        with np.errstate(over="ignore"):  # a float beyond the narrower type's is infinite in it
            np.copyto(self.values(shape), values, casting="unsafe")

    def widen(self, shape: Shape) -> None:
        """Gives the caller what TensorRT wrote, in the caller's data type."""
        np.copyto(self.view(shape), self.values(shape))

    def copy(self, nbytes: int) -> Copy | None:
        """The copy of so many bytes, in for an input and out for an output; None if there is nothing to copy."""
        if self._host is None or self._device is None or not nbytes:
            return None
        move = Copy(self._device.address, self._host.address, nbytes, CopyKind.HOST_TO_DEVICE)
        if self.tensor.is_input:
            return move
        return replace(move, destination=move.source, source=move.destination, kind=CopyKind.DEVICE_TO_HOST)

    def settle(self) -> None:
        """Gives back what was outgrown; the stream has finished."""
        while self._retired:
            self._retired.pop().close()

    def close(self) -> None:
        """Gives all of it back, once the stream has finished; idempotent."""
        self._host = self._device = self._wide = None
        self._pinned = np.empty(0, self.tensor.dtype.numpy)
        self.settle()
        self._owned.close()
