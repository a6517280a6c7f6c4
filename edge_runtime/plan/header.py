"""What the first bytes of a TensorRT plan say, read without TensorRT.

Offsets: `ftrt` as trtexec's `--getPlanVersionOnly` reads them, `vtrt` (TensorRT-RTX) as its plans were found to be.
Plans from before 8.6 (`ptrt`) hold only the number of their serialization, which changes with the minor version.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from edge_runtime.errors import PlanCorruptError
from edge_runtime.plan.contents import StoredFile, opened

HEADER_NBYTES = 64

_SHORTEST = 28
_SERIALIZATIONS = {205: (8, 2), 213: (8, 4), 232: (8, 5)}
_RTX_CAPABILITIES = {0x01: (7, 5), 0x02: (8, 0), 0x04: (8, 6), 0x08: (8, 9), 0x10: (12, 0), 0x20: (12, 1)}


@dataclass(frozen=True)
class PlanHeader:
    """Which library made a plan, and its version: all four numbers, major and minor, or () where it isn't known.

    `nbytes` is the size that the plan says it has, `capabilities` the GPUs that it says it is for; None if it doesn't.
    """

    library: str
    version: Tuple[int, ...]
    nbytes: int | None = None
    capabilities: Tuple[Tuple[int, int], ...] | None = None

    @property
    def text(self) -> str:
        """Library and version."""
        number = ".".join(map(str, self.version)) or "of an unknown version before 8.6"
        return f"{self.library} {number}"


def read_header(path: Path) -> PlanHeader:
    """The header of a plan file, held against the file's size.

    Raises:
        PlanCorruptError: it can't be read, isn't a TensorRT plan, or has another size than it says.
    """
    with opened(path) as file:
        return _held(file.read(HEADER_NBYTES), os.fstat(file.fileno()).st_size, path)


def header_of(file: StoredFile) -> PlanHeader:
    """The header of a plan in a store, held against the size of the plan.

    Raises:
        PlanCorruptError: it can't be read, isn't a TensorRT plan, or has another size than it says.
    """
    return _held(*file.beginning(HEADER_NBYTES), file.path)


def _held(data: bytes, nbytes: int, path: Path) -> PlanHeader:
    header = header_from_bytes(data, str(path))
    if header.nbytes not in (None, nbytes):
        raise PlanCorruptError(
            f"{path}: expected {header.nbytes} bytes, as its header says, got {nbytes}; build the plan again"
        )
    return header


def header_from_bytes(data: bytes, source: str) -> PlanHeader:
    """The header in the first 64 bytes of a plan (fewer if it is shorter); `source` names it in messages.

    Raises:
        PlanCorruptError: it isn't a TensorRT plan, or ends within its header.
    """
    magic = data[:4]
    if magic not in (b"ftrt", b"ptrt", b"vtrt"):
        raise PlanCorruptError(f"{source}: expected a TensorRT plan, got {_kind(data)}; build the plan again")
    if len(data) < (HEADER_NBYTES if magic == b"vtrt" else _SHORTEST):
        raise PlanCorruptError(f"{source}: ends after {len(data)} bytes, within its header; build the plan again")
    if magic == b"ptrt":
        return PlanHeader("tensorrt", _SERIALIZATIONS.get(data[8], ()))
    (reserved,) = struct.unpack_from("<I", data, 4)
    if reserved:
        raise PlanCorruptError(f"{source}: its header has {reserved} where 0 is expected; build the plan again")
    version = tuple(data[24:28])
    if magic == b"ftrt":
        return PlanHeader("tensorrt", version)
    (nbytes,) = struct.unpack_from("<Q", data, 16)
    (mask,) = struct.unpack_from("<I", data, 32)
    capabilities = tuple(capability for bit, capability in _RTX_CAPABILITIES.items() if mask & bit)
    return PlanHeader("tensorrt_rtx", version, nbytes, capabilities)


def _kind(data: bytes) -> str:
    if not data:
        return "an empty file"
    if data[:1] == b"\x08":
        return "what looks like ONNX"
    return f"bytes that begin with {data[:4].hex(' ')}"
