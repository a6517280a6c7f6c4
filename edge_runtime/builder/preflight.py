"""Whether a machine has room for a build, asked before it begins: one that fails after an hour helps nobody."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.device.memory import available_nbytes
from edge_runtime.errors import ShortageError

DISK_FACTOR = 3

_MIB = 1 << 20
_BASE_NBYTES = 64 * _MIB
_MEMORY_FACTOR = 6


@dataclass(frozen=True)
class Room:
    """Bytes that are free on a store's file system, which `folder` is on, and of memory; None: not known."""

    folder: Path
    disk_nbytes: int | None
    memory_nbytes: int | None


def room_of(engines: Path, root: Path = Path("/")) -> Room:
    """What is free now, on the disk to users other than root."""
    folder = engines.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        status = os.statvfs(existing)
    except OSError:
        return Room(existing, None, available_nbytes(root))
    return Room(existing, status.f_bavail * status.f_frsize, available_nbytes(root))


def needed_disk_nbytes(source_nbytes: int) -> int:
    """What must be free on the store's file system: three times the ONNX with its external data.

    A plan is about as large as its ONNX, TensorRT's sometimes nearly twice; the rest is for the calibration tables, and
    so that what else writes there doesn't stand still meanwhile.
    """
    return DISK_FACTOR * source_nbytes


def needed_memory_nbytes(source_nbytes: int) -> int:
    """What a build takes of memory at the least, beyond what Python and the libraries have already.

    The float model is there as bytes, as a parsed graph and in its session, and once more so while it is compared with
    a candidate: six times the ONNX. Measured on the CPU, the peak of the resident size less that after importing, for
    fp32 and auto: 498 and 688 MiB with a model of 66 MiB (this gives 460), and 78 to 808 MiB with four of 0.6 to 10 MiB
    (67 to 126). Activations and samples come on top and aren't known yet, so this refuses what can't succeed, and lets
    pass what still may fail.
    """
    return _BASE_NBYTES + _MEMORY_FACTOR * source_nbytes


def check_room(name: str, source_nbytes: int, room: Room) -> None:
    """Lets a build of a model pass for which there is room; what isn't known doesn't hinder it.

    Raises:
        ShortageError: there is too little disk or memory.
    """
    disk, memory = needed_disk_nbytes(source_nbytes), needed_memory_nbytes(source_nbytes)
    if room.disk_nbytes is not None and room.disk_nbytes < disk:
        raise ShortageError(
            f"model {name!r}: expected {_mib(disk)} MiB free on the file system of {room.folder} ({DISK_FACTOR} times "
            f"the ONNX), got {_mib(room.disk_nbytes, up=False)} MiB; remove old versions (edge-runtime build --keep 0) "
            "or other files, or name another disk by --engines"
        )
    if room.memory_nbytes is not None and room.memory_nbytes < memory:
        raise ShortageError(
            f"model {name!r}: expected {_mib(memory)} MiB of memory available for its build, got "
            f"{_mib(room.memory_nbytes, up=False)} MiB; stop what holds it (edge-runtime doctor), or build the pack's "
            "plan while the server is stopped"
        )


def _mib(nbytes: int, up: bool = True) -> int:
    """In MiB, up for what is needed and down for what is there, so that a message never says `expected 5, got 5`."""
    return -(-nbytes // _MIB) if up else nbytes // _MIB
