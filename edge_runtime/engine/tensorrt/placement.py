"""Where inputs and outputs of a run lie, if that isn't the slot's own memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, NamedTuple

from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.engine.tensorrt.tensor_memory import Copy, TensorMemory
from edge_runtime.engine.user_memory import unfit_output
from edge_runtime.errors import BackendError
from edge_runtime.tensors import Shape


class Span(NamedTuple):
    """The host memory of a tensor of one shape: its address is for the CPU and for copies."""

    address: int
    shape: Shape


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
            InvalidRequestError: an output has another shape than there is memory for here.
            BackendError: nothing on the device takes the copy.
        """
        name, own = memory.tensor.name, memory.copy(memory.nbytes(shape))
        if name not in self.hosts:
            return own
        address, expected = self.hosts[name]
        if shape != expected:
            raise unfit_output(name, shape, expected)
        if name in self.mapped:
            return None
        if own is None:
            raise BackendError(f"tensor {name!r} is mapped in the slot's own memory, and must be here")
        is_inward = own.kind is CopyKind.HOST_TO_DEVICE
        return replace(own, source=address) if is_inward else replace(own, destination=address)


OWN = Placement(0, {}, {})
