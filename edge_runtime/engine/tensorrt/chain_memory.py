"""The memory of tensors that go from one part of a chain to another: it stays on the device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.device.cuda.memory import DeviceBuffer
from edge_runtime.device.cuda.port import Cuda
from edge_runtime.engine.tensorrt.gpu_use import give_back
from edge_runtime.engine.tensorrt.memory_kind import COPY
from edge_runtime.engine.tensorrt.tensor_io import EngineTensor
from edge_runtime.engine.tensorrt.tensor_memory import Copy, TensorMemory, outgrown
from edge_runtime.tensors import Shape

Array = npt.NDArray[np.generic]


class CrossingMemory(TensorMemory):
    """Device memory, of the size first asked for, of an output that nobody but later parts reads: it is never copied.

    What callers see of it has its shape and type, but not its values.
    """

    def __init__(self, cuda: Cuda, tensor: EngineTensor, what: str) -> None:
        super().__init__(cuda, tensor, tensor.dtype, lambda _: COPY, what)
        self._nbytes = -1

    @property
    def capacity(self) -> int:
        """Bytes that there is room for."""
        return max(self._nbytes, 0)

    def fit(self, nbytes: int) -> bool:
        """Makes room for so many bytes, once; True if the address changed.

        Raises:
            BackendError: there is too little memory, or it was made for fewer bytes.
        """
        if nbytes <= self._nbytes:
            return False
        if self._nbytes >= 0:
            raise outgrown(self._what, nbytes)
        buffer = DeviceBuffer(self._cuda, nbytes, self.tensor.name)
        self._owned.callback(give_back, buffer)
        self._nbytes, self.address = nbytes, buffer.address
        return True

    def view(self, shape: Shape) -> Array:
        """An array of that shape with one element, which stands for all."""
        return np.broadcast_to(np.zeros((), self.dtype.numpy), shape)

    def copy(self, nbytes: int) -> Copy | None:  # noqa: ARG002  (of the base)
        """None: there is nothing to copy."""
        return None


class LentMemory(TensorMemory):
    """The memory that an earlier part's slot has of a tensor which this slot reads."""

    def __init__(self, cuda: Cuda, tensor: EngineTensor, owner: TensorMemory, what: str) -> None:
        super().__init__(cuda, tensor, owner.dtype, lambda _: COPY, what)
        self._owner = owner
        owner.is_lent = True

    @property
    def capacity(self) -> int:
        """Bytes that there is room for."""
        return self._owner.capacity

    def fit(self, nbytes: int) -> bool:
        """Takes the address over, once; True if it did.

        Raises:
            BackendError: there is no room for so many bytes.
        """
        if nbytes > self._owner.capacity:
            raise outgrown(self._what, nbytes)
        is_new = self.address != self._owner.address
        self.address = self._owner.address
        return is_new

    def view(self, shape: Shape) -> Array:
        """The memory as callers see it, for a shape that it has room for."""
        return self._owner.view(shape)

    def copy(self, nbytes: int) -> Copy | None:  # noqa: ARG002  (of the base)
        """None: the other slot has it on the device already."""
        return None
