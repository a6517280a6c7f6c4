"""NVIDIA's bindings, where `make test` put them."""

from __future__ import annotations

from typing import Callable

import pytest
from fakes.tensorrt_bindings import Bindings, available


@pytest.fixture(scope="session")
def bindings() -> Callable[[str], Bindings]:
    """The bindings of a version; the test is skipped where that version has no wheel for this Python."""
    made = {}

    def of(version: str) -> Bindings:
        if version not in available():
            pytest.skip(f"no bindings of TensorRT {version} here; make .venv/bindings fetches what this Python has")
        if version not in made:
            made[version] = Bindings(version)
        return made[version]

    return of
