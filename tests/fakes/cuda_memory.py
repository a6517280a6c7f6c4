"""The memory of FakeCuda: real host memory, device memory behind addresses that can't be dereferenced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

POISON = 0xDB  # fresh memory, and what a queued write will replace
FREED = 0xDE
ALIGNMENT = 256
_DEVICE_BASE = 0x0DE0_0000_0000_0000  # neither is an address that a CPU can use
_ALIAS_BASE = 0x0A11_0000_0000_0000


class CudaViolationError(AssertionError):
    """Something that real CUDA punishes with a crash, wrong data or a lost context: always a fault of the caller."""


class _Foreign:
    """Memory that somebody else owns, as NumPy takes it."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__array_interface__ = {"shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3}


@dataclass(eq=False)
class Span:
    """One allocation or registration. `alias` is where kernels find mapped host memory; device memory has none."""

    kind: str
    address: int
    content: np.ndarray[Any, Any]
    alias: int | None = None
    is_alive: bool = True

    @property
    def nbytes(self) -> int:
        return self.content.nbytes

    def __str__(self) -> str:
        return f"{self.kind} memory at {self.address:#x} of {self.nbytes:,} bytes"


@dataclass(frozen=True)
class Region:
    """A piece of a span."""

    span: Span
    offset: int
    nbytes: int

    @property
    def bytes(self) -> np.ndarray[Any, Any]:
        return self.span.content[self.offset : self.offset + self.nbytes]

    def overlaps(self, other: Region) -> bool:
        if self.span is not other.span or not self.nbytes or not other.nbytes:
            return False
        return self.offset < other.offset + other.nbytes and other.offset < self.offset + self.nbytes


class Spaces:
    """Every allocation, found by host address or by device address; addresses are never used twice."""

    def __init__(self) -> None:
        self.spans: Dict[Tuple[str, int], Span] = {}
        self._next_device = _DEVICE_BASE
        self._next_alias = _ALIAS_BASE

    def device(self, nbytes: int) -> Span:
        content = np.full(nbytes, POISON, np.uint8)
        span = Span("device", self._next_device, content)
        self._next_device += _room(nbytes)
        return self._added(span)

    def host(self, nbytes: int, mapped: bool) -> Span:
        block = np.full(nbytes + ALIGNMENT, POISON, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        content = block[start : start + nbytes]
        return self._added(Span("host", content.ctypes.data, content, self._alias(nbytes, mapped)))

    def registered(self, address: int, nbytes: int, mapped: bool) -> Span:
        content = np.asarray(_Foreign(address, nbytes))
        return self._added(Span("registered", address, content, self._alias(nbytes, mapped)))

    def take(self, kind: str, address: int) -> Span:
        """The live span that starts at `address`."""
        span = self.spans.get((kind, address))
        if span is None:
            raise CudaViolationError(f"{address:#x} isn't the start of any {kind} memory")
        if not span.is_alive:
            raise CudaViolationError(f"{span} is given back twice")
        return span

    def drop(self, span: Span) -> None:
        """Marks it as given back; its address stays known and its memory stays readable, with other contents."""
        span.is_alive = False
        if span.kind == "registered":
            del self.spans[span.kind, span.address]
        else:
            span.content.fill(FREED)

    def alive(self) -> List[Span]:
        return [span for span in self.spans.values() if span.is_alive]

    def on_device(self, address: int, nbytes: int) -> Region:
        """What a kernel sees at `address`."""
        for span, base in self._device_bases():
            if base <= address < base + max(span.nbytes, 1):
                return _region(span, address - base, nbytes)
        for span in self.spans.values():
            if span.kind != "device" and span.address <= address < span.address + span.nbytes:
                raise CudaViolationError(f"{address:#x} is a host address ({span}); kernels need device_address of it")
        raise CudaViolationError(f"{address:#x} is no device address")

    def on_host(self, address: int, nbytes: int) -> Region:
        """Pinned or registered memory at `address`."""
        for span in self.spans.values():
            if span.kind != "device" and span.address <= address < span.address + max(span.nbytes, 1):
                return _region(span, address - span.address, nbytes)
        if any(base <= address < base + span.nbytes for span, base in self._device_bases()):
            raise CudaViolationError(f"{address:#x} is a device address where host memory is expected")
        raise CudaViolationError(f"{address:#x} is neither pinned nor registered host memory")

    def _device_bases(self) -> Iterator[Tuple[Span, int]]:
        for span in self.spans.values():
            if span.kind == "device":
                yield span, span.address
            elif span.alias is not None:
                yield span, span.alias

    def _alias(self, nbytes: int, mapped: bool) -> int | None:
        if not mapped:
            return None
        self._next_alias += _room(nbytes)
        return self._next_alias - _room(nbytes)

    def _added(self, span: Span) -> Span:
        self.spans[span.kind, span.address] = span
        return span


def _room(nbytes: int) -> int:
    """Bytes of address space: rounded up, and a gap after it."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT + ALIGNMENT


def _region(span: Span, offset: int, nbytes: int) -> Region:
    if not span.is_alive:
        raise CudaViolationError(f"{span} is used after it was given back")
    if nbytes < 0 or offset + nbytes > span.nbytes:
        raise CudaViolationError(f"{nbytes:,} bytes from byte {offset:,} on reach beyond {span}")
    return Region(span, offset, nbytes)
