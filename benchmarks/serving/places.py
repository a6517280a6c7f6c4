"""Where the benchmark keeps what it makes, and how its own child processes are started."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict, List

PARTS = Path(__file__).resolve().parent
ROOT = PARTS.parents[1]
BENCH = ROOT / ".bench"
TOOLS = BENCH / "tools"
NETS = BENCH / "nets"
ENGINES = BENCH / "engines"
LOGS = BENCH / "logs"
TRITON, MLSERVER = BENCH / "triton", BENCH / "mlserver"
TRITON_BACKENDS = BENCH / "triton-backends"
PYTRITON = "nvidia-pytriton==0.7.0"
TRITON_LABEL = "Triton 2.51, python backend"


def own_module(name: str, *arguments: str) -> List[str]:
    """The command that runs a module of this package in this interpreter."""
    return [sys.executable, "-m", f"serving.{name}", *arguments]


def own_environment() -> Dict[str, str]:
    """The environment in which `own_module` finds its module; a PYTHONPATH that is set stays, behind it."""
    paths = [str(PARTS.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
