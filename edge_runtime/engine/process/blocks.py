"""Shared memory that a process allocates its tensors in, so that another one reads and writes them where they lie."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import weakref
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet

import numpy as np
import numpy.typing as npt

from edge_runtime.device.memory import read_memory
from edge_runtime.device.sealed_memory import sealed_memory
from edge_runtime.engine.process.tensors import Place
from edge_runtime.errors import BackendError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Block:
    start: int
    nbytes: int
    descriptor: int


class Blocks:
    """Blocks of shared memory, each freed with the last array over it; any thread may use them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._blocks: Dict[int, _Block] = {}

    def allocate(self, count: int, dtype: np.dtype[Any]) -> Array:
        """An array of so many elements in a block of its own.

        Raises:
            BackendError: this machine has no memory or descriptor for it.
        """
        nbytes = count * dtype.itemsize
        if not nbytes or dtype.hasobject:
            return np.empty(count, dtype)
        available = read_memory().available_nbytes
        if available is not None and nbytes > available:  # the kernel would take the memory of others for it
            raise BackendError(f"{nbytes:,} bytes of shared memory can't be had: {available:,} are available")
        try:
            descriptor, memory = sealed_memory("tensor", nbytes)
        except OSError as error:
            raise BackendError(f"{nbytes:,} bytes of shared memory can't be had ({error.strerror})") from None
        memory_array = np.frombuffer(memory, dtype, count)
        number = next(self._numbers)
        self._blocks[number] = _Block(_address(memory_array), nbytes, descriptor)
        self._free_with(memory, number)
        return memory_array

    def _free_with(self, memory: mmap.mmap, number: int) -> None:
        weakref.finalize(memory, self._forget, number).atexit = False

    def _forget(self, number: int) -> None:
        block = self._blocks.pop(number)
        with contextlib.suppress(OSError):
            os.close(block.descriptor)

    def place_of(self, values: Array) -> Place | None:
        """Where contiguous values lie; None if that is in no block."""
        if not values.flags.c_contiguous:
            return None
        start = _address(values)
        for number, block in list(self._blocks.items()):
            if block.start <= start and start + values.nbytes <= block.start + block.nbytes:
                return Place(number, start - block.start)
        return None

    def descriptor_of(self, number: int) -> int:
        """The descriptor of a block that is there."""
        return self._blocks[number].descriptor

    @property
    def numbers(self) -> FrozenSet[int]:
        """The blocks that are there."""
        return frozenset(self._blocks)


def _address(values: Array) -> int:
    address: int = values.__array_interface__["data"][0]
    return address
