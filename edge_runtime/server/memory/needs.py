"""What models need, as it was measured on this machine, or else estimated."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from pathlib import Path
from typing import Dict

from edge_runtime.device.files import text_of
from edge_runtime.plan.files import make_folder, write_atomically
from edge_runtime.plan.manifest import Manifest
from edge_runtime.server.memory.ledger import Need
from edge_runtime.tensors import element_count

logger = logging.getLogger(__name__)

CPU = "cpu"

_MOST = 256
_BASE_NBYTES = 48 << 20
_GPU_NBYTES = 512 << 20  # a GPU's context and libraries, once a process; an assumption until a load was measured
_PLAN_FACTOR = 4
_INPUT_FACTOR = 16  # for what lies between the layers


def need_key(manifest: Manifest, slots: int) -> str:
    """What a measurement holds for: these plans, so many slots, this library and device."""
    backend = manifest.backend
    parts = [*(plan.sha256 for plan in manifest.plans), slots, backend.name, backend.version, backend.device]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def estimated_need(manifest: Manifest, opens_gpu: bool = False) -> Need:
    """What a plan needs that was never loaded here: four times its size, 16 times its largest inputs, and a base.

    The first one on a GPU brings the GPU's context and libraries, too.

    Of the four models that the factors are from, which took 24 to 186 MiB, each needs 0.4 to 0.9 of its estimate.
    """
    signature = manifest.signature
    limits = ((spec, signature.profile[spec.name].maximum) for spec in signature.inputs)
    inputs_nbytes = sum(element_count(shape) * spec.dtype.itemsize for spec, shape in limits)
    base_nbytes = _BASE_NBYTES + (_GPU_NBYTES if opens_gpu else 0)
    return Need(base_nbytes + _PLAN_FACTOR * manifest.total_nbytes + _INPUT_FACTOR * inputs_nbytes)


class MemoryNeeds:
    """Measured needs, kept in a file if there is a place for one; any thread may use it."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._measured = {} if path is None else _read(path)

    @property
    def are_kept(self) -> bool:
        """Whether the next start knows them too."""
        return self._path is not None

    def measured(self, key: str) -> Need | None:
        """What was measured of a plan, by `need_key`; None if it never was."""
        with self._lock:
            nbytes = self._measured.get(key)
        return None if nbytes is None else Need(nbytes, is_measured=True)

    def learn(self, key: str, nbytes: int) -> None:
        """Keeps what was measured; a larger one stays."""
        with self._lock:
            if nbytes <= self._measured.get(key, 0):
                return
            self._measured.pop(key, None)
            self._measured[key] = nbytes
            while len(self._measured) > _MOST:
                del self._measured[next(iter(self._measured))]
            text = json.dumps(self._measured)
        if self._path is not None:
            try:
                make_folder(self._path.parent)
                write_atomically(self._path, text.encode())
            except OSError as error:
                logger.warning("%s: what models need isn't kept (%s)", self._path, error.strerror)


def _read(path: Path) -> Dict[str, int]:
    """What a file has; nothing where it can't be read, for it is measured again."""
    try:
        found = json.loads(text_of(path) or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(type(value) is int and value >= 0 for value in found.values()):
        logger.warning("%s: isn't what was written there; needs of memory are measured anew", path)
        return {}
    return found
