"""The virtual accelerator of the benchmarks, to play traces on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def play():
    """Plays sorted requests against a scheduler: play(scheduler, requests, lanes, duration, chains) -> Trace."""
    spec = importlib.util.spec_from_file_location("virtual_accelerator", BENCHMARKS / "virtual_accelerator.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)

    def run(scheduler, requests, lanes, duration, chains=None):
        return module.VirtualAccelerator(scheduler, lanes, duration, chains).run(requests)

    return run
