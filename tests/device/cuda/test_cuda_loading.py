from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from fakes.cuda import FakeCuda, fake_error

from edge_runtime.device.cuda import loading
from edge_runtime.device.cuda.loading import driver_version, install_command, open_cuda, probe
from edge_runtime.errors import BackendUnavailableError


class FakeLibcuda:
    """libcuda as ctypes gives it."""

    def __init__(self, version: int, status: int = 0) -> None:
        self.version, self.status = version, status

    def cuDriverGetVersion(self, pointer: object) -> int:
        pointer._obj.value = self.version  # type: ignore[attr-defined]
        return self.status


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with a driver of some version (None: without one) and adapters or their errors by name."""

    def arrange(version: int | None, **adapters: FakeCuda | str) -> None:
        def load(name: str) -> FakeLibcuda:
            assert name == "libcuda.so.1"
            if version is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return FakeLibcuda(version)

        def made(found: FakeCuda | str) -> FakeCuda:
            if isinstance(found, str):
                raise BackendUnavailableError(f"{found}; pip install it")
            return found

        table = {name.replace("_", "-"): lambda found=found: made(found) for name, found in adapters.items()}
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(loading, "ADAPTERS", table)

    return arrange


def named(name: str, **options: int) -> FakeCuda:
    fake = FakeCuda(**options)
    fake.name = name
    return fake


def test_cuda_python_comes_first_and_a_name_chooses(set_up: Callable[..., None]) -> None:
    first, second = named("cuda-python 12.9.1"), named("pycuda 2022.1")
    set_up(12060, cuda_python=first, pycuda=second)
    assert open_cuda() is first
    assert open_cuda(adapter="pycuda") is second
    assert (probe().adapter, probe().device_count, probe().driver_version, probe().problem) == (
        first.name,
        1,
        12060,
        "",
    )
    with pytest.raises(BackendUnavailableError, match="unknown CUDA library 'cupy'"):
        open_cuda(adapter="cupy")


def test_pycuda_is_taken_where_cuda_python_is_missing_or_too_new(set_up: Callable[..., None]) -> None:
    pycuda = named("pycuda 2022.1", runtime=10020)
    set_up(10020, cuda_python="cuda-python can't be imported (No module named 'cuda')", pycuda=pycuda)
    assert open_cuda() is pycuda
    set_up(10020, cuda_python=named("cuda-python 12.9.1"), pycuda=pycuda)
    assert open_cuda() is pycuda


@pytest.mark.parametrize(
    ("version", "command"),
    [
        (10020, "pip install pycuda"),
        (11040, "pip install 'cuda-python<12'"),
        (12060, "pip install 'cuda-python>=12,<13'"),
        (13000, "pip install 'cuda-python>=13'"),
        (14000, "pip install 'cuda-python>=13'"),
    ],
)
def test_without_a_library_the_message_has_the_command_for_this_driver(
    set_up: Callable[..., None], version: int, command: str
) -> None:
    set_up(version, cuda_python="no cuda", pycuda="no pycuda")
    with pytest.raises(BackendUnavailableError) as caught:
        open_cuda()
    assert str(caught.value).endswith(f"no library for it (no cuda, no pycuda); {command}")
    assert probe().remedy == command == install_command(version)


def test_a_library_for_a_newer_cuda_is_named_with_the_command(set_up: Callable[..., None]) -> None:
    set_up(11040, cuda_python=named("cuda-python 12.9.1"))
    assert probe().problem == "CUDA 11.4: no library for it (cuda-python 12.9.1 is made for CUDA 12.6)"
    assert probe().remedy == "pip install 'cuda-python<12'"


def test_without_a_driver_there_is_nothing_to_install_with_pip(set_up: Callable[..., None]) -> None:
    set_up(None, cuda_python=named("cuda-python 12.9.1"))
    assert driver_version() is None
    found = probe()
    assert (found.adapter, found.device_count, found.driver_version) == ("", 0, None)
    assert found.problem == "CUDA: no driver (libcuda.so.1) on this machine"
    assert found.remedy.startswith("install the NVIDIA driver")


def test_a_driver_without_a_device_is_a_problem_of_the_machine(set_up: Callable[..., None]) -> None:
    fake = named("cuda-python 12.9.1")
    set_up(12060, cuda_python=fake)
    fake.fail_next("device_count", fake_error("device_count", 100))
    found = probe()
    assert "(100)" in found.problem
    assert "pip" not in found.remedy
    assert found.driver_version == 12060


def test_an_ordinal_that_is_not_there_is_refused(set_up: Callable[..., None]) -> None:
    set_up(12060, cuda_python=named("cuda-python 12.9.1"))
    with pytest.raises(BackendUnavailableError, match="CUDA device 1: expected an ordinal below 1"):
        open_cuda(1)


def test_neither_opening_nor_probing_makes_a_context(set_up: Callable[..., None]) -> None:
    fake = named("cuda-python 12.9.1")
    set_up(12060, cuda_python=fake)
    probe()
    open_cuda()
    assert fake.counts["use_device"] == fake.counts["memory_info"] == 0


def test_this_machine_can_be_probed() -> None:
    found = probe()
    assert bool(found.adapter) == (not found.problem)
    assert found.remedy or not found.problem


def test_importing_the_room_loads_no_cuda_library() -> None:
    code = (
        "import sys; before = set(sys.modules);"  # a .pth file of cuda-python imports something at every start
        "import edge_runtime.device.cuda.loading, edge_runtime.device.cuda.streams;"
        "print([name for name in set(sys.modules) - before if name.split('.')[0] in ('cuda', 'pycuda')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
def test_the_driver_itself_is_asked_for_its_version(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "fakes/libcuda.c"
    library = tmp_path / "libcuda.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-DFAKE_VERSION=11040", "-o", library, source, "-lpthread"], check=True, timeout=60
    )
    code = "from edge_runtime.device.cuda.loading import driver_version; print(driver_version())"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "11040"
