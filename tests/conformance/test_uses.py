"""Every name of TensorRT's that the product touches is in NVIDIA's bindings, and in the fakes."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any, List

import pytest
from fakes.tensorrt import SURFACES, fake_tensorrt
from fakes.tensorrt_bindings import ROOT, VERSIONS, Bindings, available
from fakes.tensorrt_uses import Uses

PACKAGE = ROOT / "edge_runtime"
FOLDERS = (PACKAGE / "builder/tensorrt", PACKAGE / "engine/tensorrt")
SOURCES = [PACKAGE / "tensorrt_api.py", *(path for folder in FOLDERS for path in sorted(folder.glob("*.py")))]
ONLY_RTX = {"ComputeCapability", "IBuilderConfig.set_compute_capability", "IBuilderConfig.num_compute_capabilities"}

every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
needs_bindings = pytest.mark.skipif(
    available() != VERSIONS,
    reason="some bindings have no wheel for this Python, or weren't fetched: make .venv/bindings",
)


@functools.lru_cache(maxsize=None)
def real() -> List[Bindings]:
    return [Bindings(version) for version in available()]


@functools.lru_cache(maxsize=None)
def fakes() -> List[Any]:
    return [fake_tensorrt(surface) for surface in SURFACES]


def used(path: Path) -> List[tuple]:
    found = Uses(path.read_text())
    return sorted(found.paths | found.members)


def has(owner: Any, path: tuple) -> bool:
    return not path or (hasattr(owner, path[0]) and has(getattr(owner, path[0]), path[1:]))


def test_the_sources_use_tensorrt() -> None:
    assert sum(len(used(path)) for path in SOURCES) > 50


@needs_bindings
@every_source
def test_every_name_that_is_used_is_in_some_bindings(path: Path) -> None:
    missing = [".".join(names) for names in used(path) if not any(one.has(*names) for one in real())]
    assert set(missing) <= ONLY_RTX


@every_source
def test_every_name_that_is_used_is_in_some_fake(path: Path) -> None:
    missing = [".".join(names) for names in used(path) if not any(has(fake, names) for fake in fakes())]
    assert set(missing) <= ONLY_RTX


@needs_bindings
@every_source
def test_every_text_that_looks_like_a_member_is_one(path: Path) -> None:
    members = {member for one in real() for name in one.classes for member in one.enum(name)}
    assert Uses(path.read_text()).words <= members


@pytest.mark.tensorrt
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx-cu12 isn't installed")
def test_the_names_that_only_tensorrt_rtx_has_are_there() -> None:
    module = importlib.import_module("tensorrt_rtx")
    assert all(has(module, tuple(name.split("."))) for name in ONLY_RTX)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("library.module.BuilderFlag.FP61", ("BuilderFlag", "FP61")),
        ("flags = self._library.module.BuilderFlag\nflags.FP61", ("BuilderFlag", "FP61")),
        ("getattr(library.module.BuilderFlag, 'FP61')", ("BuilderFlag", "FP61")),
        ("module = library.module\nhasattr(module, 'IPlanner')", ("IPlanner",)),
        ("_has('ICudaEngine.num_planes')", ("ICudaEngine", "num_planes")),
        ("self._engine.num_planes", ("ICudaEngine", "num_planes")),
        ("slot.context.execute_async_v9(1)", ("IExecutionContext", "execute_async_v9")),
    ],
)
def test_a_made_up_name_is_seen(source: str, path: tuple) -> None:
    found = Uses(source)
    assert path in found.paths | found.members
    assert not has(fake_tensorrt("10.3"), path)
