"""How this benchmark's own child processes are started, and where it keeps what it makes."""

from __future__ import annotations

import sys
from typing import List

from serving.places import BENCH, own_environment

__all__ = ["FOLDER", "own_environment", "own_module"]

FOLDER = BENCH / "operations"


def own_module(name: str, *arguments: str) -> List[str]:
    """The command that runs a module of this package in this interpreter."""
    return [sys.executable, "-m", f"operations.{name}", *arguments]
