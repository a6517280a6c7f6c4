"""Slots over their user's memory: it is pinned for the GPU, and a slot of the pool runs on it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
from typing import Any, Dict, Mapping, Protocol, Set, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.device.cuda.memory import RegisteredBuffer
from edge_runtime.engine.tensorrt.gpu_use import give_back
from edge_runtime.engine.tensorrt.memory_kind import MAPPED, memory_kind
from edge_runtime.engine.tensorrt.placement import Placement, Span
from edge_runtime.engine.tensorrt.plan_engine import PlanEngine
from edge_runtime.engine.tensorrt.slot import TensorRTSlot
from edge_runtime.engine.tensorrt.tensor_io import EngineTensor
from edge_runtime.engine.user_memory import input_memory, is_read_in_place, is_written_in_place, snapshot, unfit_output
from edge_runtime.errors import BackendError, DeviceLostError
from edge_runtime.tensors import Shape

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_PAGE_NBYTES = mmap.PAGESIZE
_ALIGNMENT = 256  # of addresses that TensorRT takes
_numbers = itertools.count(1)


class Pool(Protocol):
    """The slots of the engine."""

    def slot(self) -> contextlib.AbstractContextManager[Any]:
        """One of them for the length of a block; waits until one is free."""


def slot_over(shared: PlanEngine, memory: Mapping[str, Array], pool: Pool) -> TensorRTSlotOver | None:
    """A slot over its user's memory (`Engine.slot_over`); None where the GPU can't reach that.

    Pinned is what lies in the same buffer as others, from the first to the last of its tensors; nothing else may be
    pinned in the pages that it touches.

    Raises:
        DeviceLostError: the GPU was lost to this process.
    """
    gpu, tensors = shared.gpu, {tensor.name: tensor for tensor in shared.tensors}
    dtypes = {spec.name: spec.dtype for spec in (*shared.signature.inputs, *shared.signature.outputs)}
    placed = [
        name
        for name, array in memory.items()
        if tensors[name].dtype is dtypes[name] and _has_place(shared, tensors[name], array)
    ]
    if not placed or not gpu.attributes.can_register_host:
        return None
    gpu.enter()
    try:
        with contextlib.ExitStack() as owned:
            pinned, place = _placed(shared, {name: memory[name] for name in placed}, owned)
            owned.pop_all()
    except DeviceLostError as error:
        raise gpu.lose(error) from error
    except BackendError as error:
        logger.info("%s: its user's memory is copied: %s", shared.what, error)
        return None
    return TensorRTSlotOver(shared, memory, pinned, place, pool)


class TensorRTSlotOver:
    """A slot over its user's memory, of fixed shapes.

    Someone else may write into that memory during a run. So large inputs of plain values are read where they lie; small
    ones, and those that may be indices or sizes, are copied before the run, after which they don't change. Outputs that
    may be indices are copied after it: other layers may read them.
    """

    def __init__(
        self, shared: PlanEngine, memory: Mapping[str, Array], pinned: RegisteredBuffer, place: Placement, pool: Pool
    ) -> None:
        signature = shared.signature
        self._gpu = shared.gpu
        self._memory = dict(memory)
        self._pinned: RegisteredBuffer | None = pinned
        self._place = place
        self._pool = pool
        self._used: Set[TensorRTSlot] = set()
        self._inputs = [(spec.name, memory[spec.name]) for spec in signature.inputs if spec.name not in place.hosts]
        self._shapes = {spec.name: memory[spec.name].shape for spec in signature.inputs}
        self._outputs = {spec.name: memory[spec.name] for spec in signature.outputs}

    def bind(self, name: str, shape: Shape) -> Array:
        """The memory of an input, which has just the one shape.

        Raises:
            InvalidRequestError: it is another one.
        """
        return input_memory(self._memory, name, shape)

    def run(self) -> Dict[str, Array]:
        """Runs what lies in the memory; the outputs are the memory's own arrays.

        Raises:
            InvalidRequestError: the outputs' shapes depend on the data, and now aren't those of the memory.
            BackendError: as a slot of the pool.
        """
        with self._pool.slot() as slot:
            self._used.add(slot)
            for name, shape in self._shapes.items():
                slot.bind(name, shape)
            for name, given in self._inputs:
                snapshot(slot.bind(name, given.shape), given)
            for name, value in slot.run(self._place).items():
                target = self._outputs[name]
                if value.shape != target.shape:
                    raise unfit_output(name, value.shape, target.shape)
                np.copyto(target, value)
        return self._outputs

    def close(self) -> None:
        """Lets the memory go; idempotent."""
        for slot in self._used:
            slot.left.append(self._place.number)
        self._used.clear()
        self._memory.clear()
        self._inputs, self._outputs = [], {}
        pinned, self._pinned = self._pinned, None
        if pinned is not None:
            with contextlib.suppress(BackendError):  # of a lost GPU, the driver takes everything back
                self._gpu.enter()
            give_back(pinned)


def _has_place(shared: PlanEngine, tensor: EngineTensor, array: Array) -> bool:
    """Whether the GPU may use a tensor where its user has it."""
    if tensor.is_host or not array.nbytes or _buffer(array) is None:
        return False
    if not (is_read_in_place(tensor.dtype, array.nbytes) if tensor.is_input else is_written_in_place(tensor.dtype)):
        return False
    return not _is_mapped(shared, array) or array.ctypes.data % _ALIGNMENT == 0


def _is_mapped(shared: PlanEngine, array: Array) -> bool:
    options = shared.options
    return memory_kind(array.nbytes, shared.gpu.attributes, options.memory, options.measured) == MAPPED


def _buffer(array: Array) -> Any:
    """What an array's memory belongs to; None if that is NumPy's own."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner


def _placed(
    shared: PlanEngine, tensors: Mapping[str, Array], owned: contextlib.ExitStack
) -> Tuple[RegisteredBuffer, Placement]:
    """Tensors of one buffer, pinned with all pages from the first to the last of them; `owned` gives that back."""
    hosts = {name: Span(array.ctypes.data, array.shape) for name, array in tensors.items()}
    mapped = [name for name, array in tensors.items() if _is_mapped(shared, array)]
    try:
        whole = np.frombuffer(_buffer(next(iter(tensors.values()))), np.uint8)
    except (TypeError, ValueError) as error:
        raise BackendError(f"its owner gives no buffer ({error})") from error
    start = whole.ctypes.data
    low = min(span.address for span in hosts.values()) - start
    high = max(hosts[name].address + array.nbytes for name, array in tensors.items()) - start
    if low < 0 or high > whole.nbytes:
        raise BackendError("its tensors lie in several buffers")
    pages = whole[low // _PAGE_NBYTES * _PAGE_NBYTES : -(-high // _PAGE_NBYTES) * _PAGE_NBYTES]
    pinned = RegisteredBuffer(shared.gpu.cuda, pages, bool(mapped), "shared frame")
    owned.callback(give_back, pinned)
    base = pinned.device_address - pinned.address if mapped else 0
    device = {name: base + hosts[name].address for name in mapped}
    return pinned, Placement(next(_numbers), hosts, device)
