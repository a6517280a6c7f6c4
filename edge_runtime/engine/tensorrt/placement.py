"""Where inputs and outputs of a run lie, if that isn't the slot's own memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, NamedTuple

from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.engine.tensorrt.tensor_memory import Copy, TensorMemory
from edge_runtime.errors import BackendError
from edge_runtime.tensors import Shape


class Span(NamedTuple):
    """Host memory: its address for the CPU and for copies, and its size."""

    address: int
    nbytes: int


@dataclass(frozen=True)
class Placement:
    """Tensors in pinned memory of somebody else, by name; those that it doesn't name lie in the slot's own.

    `number` is never used again. Those that are `mapped` need no copy: it has their addresses for kernels.
    """

    number: int
    hosts: Mapping[str, Span]
    mapped: Mapping[str, int]

    def copy(self, memory: TensorMemory, shape: Shape) -> Copy | None:
        """The copy between host and device, whose device memory is the slot's own; None if there is nothing to copy.

        Raises:
            BackendError: a tensor of that shape takes another number of bytes than it has here.
        """
        name, nbytes = memory.tensor.name, memory.nbytes(shape)
        own = memory.copy(nbytes)
        if name not in self.hosts:
            return own
        address, there = self.hosts[name]
        if there != nbytes:
            raise BackendError(f"tensor {name!r}: expected {there:,} bytes, for which there is room, got {nbytes:,}")
        if own is None or name in self.mapped:
            return None
        is_inward = own.kind is CopyKind.HOST_TO_DEVICE
        return replace(own, source=address) if is_inward else replace(own, destination=address)


OWN = Placement(0, {}, {})
