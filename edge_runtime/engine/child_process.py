"""How a module of ours is run in a process of its own."""

from __future__ import annotations

import sys
from typing import Tuple


def module_command(module: str) -> Tuple[str, ...]:
    """The command that calls the `main` of a module, with this Python.

    Unlike `python -m` it doesn't import from the current folder, in which a `tensorrt` or `cuda` of somebody's may lie.
    """
    code = f"import sys; sys.path[:1] = [p for p in sys.path[:1] if p]; from {module} import main; main()"
    return sys.executable, "-c", code
