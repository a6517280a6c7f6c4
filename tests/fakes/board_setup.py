"""Gives child processes, or this one for the length of a test, a fake board with TensorRT and a GPU.

A Nano has pycuda; here it has cuda-python's names like the others. What /proc and /dev say isn't part of this.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, NamedTuple

import pytest
from fakes.board_process import CUDA_VERSIONS, board_cuda, board_tensorrt
from fakes.board_runtime import BoardRuntime
from fakes.cuda import FakeCuda
from fakes.tensorrt_surfaces import VERSIONS

from edge_runtime.device.cuda import loading
from edge_runtime.device.cuda.cuda_python import CudaPython

TESTS = Path(__file__).resolve().parents[1]
BOARD = TESTS / "fakes/board"


class InProcess(NamedTuple):
    """What this process imports as `tensorrt`, and what `open_cuda` gives it through cuda-python's adapter."""

    tensorrt: Any
    cuda: FakeCuda


def child_environment(folder: Path, surface: str, **board: Any) -> Dict[str, str]:
    """The environment of a process whose `tensorrt` is of that surface and whose driver is a stub.

    `folder` is an empty one that must stay; `board` are fields of the fakes' `Board`. Skips the test without gcc.
    """
    site, libraries = folder / "site", folder / "lib"
    _describe(site, "tensorrt", VERSIONS[surface])
    _describe(site, "cuda_bindings", f"{CUDA_VERSIONS[surface] // 1000}.{CUDA_VERSIONS[surface] % 1000 // 10}.0")
    _make_driver(libraries, CUDA_VERSIONS[surface])
    paths = [str(BOARD), str(site), str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    library_paths = [str(libraries), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, library_paths)),
        "FAKE_TENSORRT": surface,
        "FAKE_TENSORRT_BOARD": json.dumps(board),
    }


def use_in_process(monkeypatch: pytest.MonkeyPatch, surface: str, **board: Any) -> InProcess:
    """Gives this process the fakes until the test ends; `use_device` is still the caller's to call."""
    cuda = board_cuda(surface)
    module = board_tensorrt(surface, cuda, **board)
    adapter = CudaPython(BoardRuntime(cuda, CUDA_VERSIONS[surface]), "of a fake board")
    monkeypatch.setitem(loading.ADAPTERS, "cuda-python", lambda: adapter)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(loading, "driver_version", lambda: CUDA_VERSIONS[surface])
    return InProcess(module, cuda)


def _describe(site: Path, name: str, version: str) -> None:
    """What `importlib.metadata` reads of an installed package."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
    )


def _make_driver(folder: Path, version: int) -> None:
    """A libcuda that knows its version and nothing else."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a stub of libcuda with")
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "driver.c"
    source.write_text(f"int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}\n")
    target = folder / "libcuda.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
