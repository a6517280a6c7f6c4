"""Which plans were run on this board before: small files below the folder of all plans."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from edge_runtime.device.cuda.port import DeviceAttributes
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.plan.files import make_folder, write_atomically

logger = logging.getLogger(__name__)

FOLDER = ".verified"


def verified_key(library: str, gpu: DeviceAttributes, board: DeviceInfo, device: str) -> str:
    """What a plan is verified for, as text: the folder of plans may get to another board, or this one another GPU.

    `library` is name and version (`TensorRT.text`), `device` is `gpu:N` or `dla:N`.
    """
    major, minor = gpu.compute_capability
    parts = (library, f"{gpu.name} {major}.{minor}", board.board, board.module, board.l4t, device)
    return " | ".join(" ".join(part.split()) for part in parts)


def is_verified(root: Path, sha256: str, key: str) -> bool:
    """Whether the plan of that digest ran before, by `root`, the folder of all plans."""
    return _marker(root, sha256, key).is_file()


def mark_verified(root: Path, sha256: str, key: str) -> None:
    """Remembers that the plan of that digest ran; where nothing can be written, it is tried again each time."""
    marker = _marker(root, sha256, key)
    try:
        make_folder(marker.parent)
        write_atomically(marker, f"{key}\n".encode())
    except OSError as error:
        logger.warning(
            "%s: can't be written (%s), so the plan is tried out each time it is loaded", marker, error.strerror
        )


def _marker(root: Path, sha256: str, key: str) -> Path:
    return root / FOLDER / f"{sha256}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
