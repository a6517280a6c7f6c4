"""Whether a tensor lies in memory that CPU and GPU share, or is copied between memory of each."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

from edge_runtime.device.cuda.port import DeviceAttributes
from edge_runtime.errors import BackendError, BackendUnavailableError, PlanCorruptError
from edge_runtime.plan.contents import opened
from edge_runtime.plan.files import write_atomically

logger = logging.getLogger(__name__)

AUTO, MAPPED, COPY = "auto", "mapped", "copy"
MODES = (AUTO, MAPPED, COPY)
FILE = ".memory.json"

_SCHEMA = 1
# Until a board was measured: pinned memory isn't cached for its GPU, which a small tensor doesn't feel.
_LARGEST_MAPPED_NBYTES = 64 << 10
# From here on the GPU reads through the CPU's caches; before, the CPU doesn't cache pinned memory either.
_COHERENT = (7, 2)


@dataclass(frozen=True)
class MeasuredMemory:
    """Up to what size a tensor is served faster mapped than copied on one board; `source` says how that was found.

    None: at every size that was measured; 0: at none.
    """

    largest_mapped_nbytes: int | None
    source: str


def memory_kind(nbytes: int, device: DeviceAttributes, mode: str, measured: MeasuredMemory | None) -> str:
    """`mapped` or `copy` for a tensor of that size; what was measured overrules `auto`'s own rule.

    Raises:
        BackendUnavailableError: `mapped` is asked for, and the device can't.
    """
    if mode == MAPPED and not device.can_map_host:
        raise BackendUnavailableError(f"memory {mode!r}: {device.name} can't map the CPU's memory; use {COPY!r}")
    if mode != AUTO:
        return mode
    if not device.can_map_host:
        return COPY
    if measured is not None:
        largest = measured.largest_mapped_nbytes
        return MAPPED if largest is None or nbytes <= largest else COPY
    is_coherent = device.is_integrated and device.compute_capability >= _COHERENT
    return MAPPED if is_coherent and nbytes <= _LARGEST_MAPPED_NBYTES else COPY


def device_key(device: DeviceAttributes) -> str:
    """What a measurement is kept under: it holds for devices of one kind."""
    major, minor = device.compute_capability
    return f"{device.name} {major}.{minor}"


def read_measured(path: Path, device: str) -> MeasuredMemory | None:
    """What was measured on a device (`device_key`); None if nothing was, or the file can't be understood."""
    found = _devices(path).get(device)
    if found is None:
        return None
    try:
        largest, source = found["largest_mapped_nbytes"], found["source"]
    except (KeyError, TypeError):
        largest, source = "", ""
    is_size = largest is None or (isinstance(largest, int) and not isinstance(largest, bool) and largest >= 0)
    if not is_size or not isinstance(source, str):
        logger.warning("%s: entry %r is ignored, for it isn't a measurement; measure again", path, device)
        return None
    return MeasuredMemory(largest, source)


def write_measured(path: Path, device: str, measured: MeasuredMemory) -> None:
    """Keeps a measurement, beside those of other devices.

    Raises:
        BackendError: the file can't be written.
    """
    entry = {"largest_mapped_nbytes": measured.largest_mapped_nbytes, "source": measured.source}
    content = {"schema": _SCHEMA, "devices": {**_devices(path), device: entry}}
    try:
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise BackendError(f"{path}: can't be written ({error.strerror}), so the measurement is lost") from error


def _devices(path: Path) -> Dict[str, Any]:
    """The entries of a file; none if there is no file that can be understood."""
    try:
        with opened(path) as file:
            content = json.loads(file.read())
        devices = content["devices"] if content["schema"] == _SCHEMA else None
    except PlanCorruptError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            logger.warning("%s: ignored, for it isn't a file that can be read; measure again", path)
        return {}
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        logger.warning("%s: ignored, for it can't be understood (%s); measure again", path, error)
        return {}
    if not isinstance(devices, dict):
        logger.warning("%s: ignored, for it is of another version; measure again", path)
        return {}
    return devices
