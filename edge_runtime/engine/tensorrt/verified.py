"""Which plans were run on this board before: small files below the folder of all plans."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Tuple

from edge_runtime.plan.files import make_folder, write_atomically

logger = logging.getLogger(__name__)

FOLDER = ".verified"


def verified_key(library: str, compute_capability: Tuple[int, int]) -> str:
    """What a plan is verified for: name and version of the library (`TensorRT.text`), and the GPU's kind."""
    major, minor = compute_capability
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{library}-{major}.{minor}")


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
    return root / FOLDER / f"{sha256}-{key}"
