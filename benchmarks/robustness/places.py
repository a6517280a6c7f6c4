"""Where this benchmark keeps what it makes, and how its own child processes are started."""

from __future__ import annotations

import sys
from typing import Dict, List

from serving.places import BENCH, ROOT, own_environment

NETS = BENCH / "robustness" / "nets"
ENGINES = BENCH / "robustness" / "engines"
TESTS = ROOT / "tests" / "server"


def own_module(name: str, *arguments: str) -> List[str]:
    """The command that runs a module of this package in this interpreter."""
    return [sys.executable, "-m", f"robustness.{name}", *arguments]


def environment(**changes: str) -> Dict[str, str]:
    """The environment in which `own_module` finds its module, with some changes."""
    return {**own_environment(), **changes}
