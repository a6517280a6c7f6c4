"""Whether this process runs in a container, where much of the board can't be seen."""

from __future__ import annotations

import os
from pathlib import Path

_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")


def is_container(root: Path = Path("/")) -> bool:
    """Whether a container engine left its mark; False proves nothing."""
    return any(os.path.lexists(root / mark) for mark in _MARKS)
