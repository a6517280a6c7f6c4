"""Where this benchmark keeps what it makes, and how its own child processes are started."""

from __future__ import annotations

import os
import sys
from typing import Dict, List

from serving.places import BENCH, PARTS, ROOT

NETS = BENCH / "robustness" / "nets"
ENGINES = BENCH / "robustness" / "engines"
TESTS = ROOT / "tests" / "server"


def own_module(name: str, *arguments: str) -> List[str]:
    """The command that runs a module of this package in this interpreter."""
    return [sys.executable, "-m", f"robustness.{name}", *arguments]


def environment(**changes: str) -> Dict[str, str]:
    """An environment in which `own_module` finds its module, and every child this checkout of edge_runtime."""
    paths = [str(PARTS.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), **changes}
