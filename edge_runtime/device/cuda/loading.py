"""Which CUDA there is, and the adapter for it: cuda-python first, then pycuda."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Callable, Dict, List

from edge_runtime.device.cuda.cuda_python import load_cuda_python
from edge_runtime.device.cuda.port import Cuda, version_text
from edge_runtime.device.cuda.pycuda_adapter import load_pycuda
from edge_runtime.errors import BackendError, BackendUnavailableError, nearest

ADAPTERS: Dict[str, Callable[[], Cuda]] = {"cuda-python": load_cuda_python, "pycuda": load_pycuda}

_NO_DRIVER = "install the NVIDIA driver; in a container, start that with --runtime nvidia"


@dataclass(frozen=True)
class CudaProbe:
    """What `open_cuda` would find: `adapter` is its name or "", `problem` is "" where all is well.

    `driver_version` is the CUDA that the driver serves, as CUDA writes it (12040 is 12.4); None: there is no driver.
    """

    adapter: str
    device_count: int
    driver_version: int | None
    problem: str = ""
    remedy: str = ""


def probe(adapter: str | None = None) -> CudaProbe:
    """What CUDA there is; never raises, and makes no context.

    It initialises the driver: a process that is forked from this one afterwards can't use CUDA.
    """
    driver = driver_version()
    try:
        cuda = _opened(adapter, driver)
        count = cuda.device_count()
    except BackendError as error:
        problem, _, remedy = str(error).partition("; ")
        return CudaProbe("", 0, driver, problem, remedy)
    return CudaProbe(cuda.name, count, driver)


def open_cuda(ordinal: int = 0, adapter: str | None = None) -> Cuda:
    """CUDA for a device; no context is made yet: each thread that uses it calls `use_device(ordinal)`.

    `adapter` is a key of `ADAPTERS`; None takes the first that works.

    Raises:
        BackendUnavailableError: no library for the driver is installed (the message has the command that installs
            it), or there is no driver or no such device.
    """
    cuda = _opened(adapter, driver_version())
    count = cuda.device_count()
    if not 0 <= ordinal < count:
        raise BackendUnavailableError(
            f"CUDA device {ordinal}: expected an ordinal below {count}; CUDA_VISIBLE_DEVICES may hide devices"
        )
    return cuda


def driver_version() -> int | None:
    """The CUDA that the installed driver serves, asked of libcuda itself; None where there is none."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        version = ctypes.c_int(0)
        status = library.cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value if status == 0 and version.value else None


def install_command(driver: int | None) -> str:
    """What installs the library for a driver's CUDA."""
    major = (driver or 0) // 1000
    if major >= 13:
        return "pip install 'cuda-python>=13'"
    if major == 12:
        return "pip install 'cuda-python>=12,<13'"
    return "pip install 'cuda-python<12'" if major == 11 else "pip install pycuda"


def _opened(adapter: str | None, driver: int | None) -> Cuda:
    if adapter is not None and adapter not in ADAPTERS:
        raise BackendUnavailableError(f"unknown CUDA library {adapter!r}; {nearest(adapter, ADAPTERS)}")
    if driver is None:
        raise BackendUnavailableError(f"CUDA: no driver (libcuda.so.1) on this machine; {_NO_DRIVER}")
    causes: List[str] = []
    for name in ADAPTERS if adapter is None else [adapter]:
        try:
            cuda = ADAPTERS[name]()
        except BackendUnavailableError as error:
            causes.append(str(error).partition("; ")[0])
            continue
        if cuda.runtime_version() // 1000 <= driver // 1000:
            return cuda
        causes.append(f"{cuda.name} is made for CUDA {version_text(cuda.runtime_version())}")
    raise BackendUnavailableError(
        f"CUDA {version_text(driver)}: no library for it ({', '.join(causes)}); {install_command(driver)}"
    )
