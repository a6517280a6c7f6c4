"""CUDA's error numbers in our words; runtime and driver API share them."""

from __future__ import annotations

from typing import Dict, Type

from edge_runtime.errors import BackendError, BackendUnavailableError, DeviceLostError

SUCCESS = 0
NOT_READY = 600

# After these the process must end, as the runtime's documentation says of each but two: 214 (an ECC error) and 709 (the
# context was destroyed) leave no context to work with either.
STICKY = frozenset({214, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911})
# No driver, no device, or one that can't serve this process.
UNAVAILABLE = frozenset({34, 35, 36, 46, 100, 101, 802, 803, 804, 805, 806, 807, 808, 809})

_DRIVER = "run `nvidia-smi` (on a Jetson: `cat /etc/nv_tegra_release`) and install the CUDA bindings for that driver"
_CAPTURE = "leave allocation and synchronisation out of what is captured, or run without a graph"
_REMEDIES: Dict[int, str] = {
    2: "use smaller shapes, fewer slots or fewer models; `free -m` shows what else is in memory",
    3: "a process that was forked from one that uses CUDA can't use it; start it anew (spawn, not fork)",
    34: "the process loads CUDA's stub library; take the folder `stubs` out of LD_LIBRARY_PATH",
    35: _DRIVER,
    36: _DRIVER,
    46: "another process holds the GPU; `nvidia-smi` shows which",
    100: "run it on a machine with an NVIDIA GPU; in a container, start that with `--runtime nvidia`",
    101: "use an ordinal that exists; CUDA_VISIBLE_DEVICES hides devices",
    209: "build it again for this GPU",
    222: "build it again with this driver's CUDA, or update the driver",
    201: "call use_device on this thread first",
    304: "the user may lack rights on the GPU's device node; `sudo usermod -aG video,render $USER`",
    712: "register each page once, or allocate it with allocate_host",
    713: "register or allocate it as mapped first",
    801: "this device can't; allocate pinned memory and copy",
    802: "the driver is still starting; try again",
    803: "the kernel's driver and libcuda differ; restart the machine after an update",
    804: "the compatibility package needs a data-centre GPU; remove it from LD_LIBRARY_PATH",
    900: _CAPTURE,
    901: _CAPTURE,
    904: "let the first stream wait for every other one before the capture ends",
    905: _CAPTURE,
    906: "use streams that don't wait for the default stream",
    907: _CAPTURE,
    908: "end a capture on the thread that began it",
    999: "restart the process; if that doesn't help, the machine (`dmesg | grep -iE 'nvrm|nvgpu'` may say why)",
}
# pycuda tells no number, only the driver's text.
_DRIVER_TEXTS = {
    "invalid argument": (1, "CUDA_ERROR_INVALID_VALUE"),
    "out of memory": (2, "CUDA_ERROR_OUT_OF_MEMORY"),
    "initialization error": (3, "CUDA_ERROR_NOT_INITIALIZED"),
    "CUDA driver is a stub library": (34, "CUDA_ERROR_STUB_LIBRARY"),
    "all CUDA-capable devices are busy or unavailable": (46, "CUDA_ERROR_DEVICE_UNAVAILABLE"),
    "CUDA-capable device(s) is/are busy or unavailable": (46, "CUDA_ERROR_DEVICE_UNAVAILABLE"),
    "no CUDA-capable device is detected": (100, "CUDA_ERROR_NO_DEVICE"),
    "invalid device ordinal": (101, "CUDA_ERROR_INVALID_DEVICE"),
    "invalid device context": (201, "CUDA_ERROR_INVALID_CONTEXT"),
    "uncorrectable ECC error encountered": (214, "CUDA_ERROR_ECC_UNCORRECTABLE"),
    "OS call failed or operation not supported on this OS": (304, "CUDA_ERROR_OPERATING_SYSTEM"),
    "invalid resource handle": (400, "CUDA_ERROR_INVALID_HANDLE"),
    "device not ready": (600, "CUDA_ERROR_NOT_READY"),
    "an illegal memory access was encountered": (700, "CUDA_ERROR_ILLEGAL_ADDRESS"),
    "the launch timed out and was terminated": (702, "CUDA_ERROR_LAUNCH_TIMEOUT"),
    "context is destroyed": (709, "CUDA_ERROR_CONTEXT_IS_DESTROYED"),
    "device-side assert triggered": (710, "CUDA_ERROR_ASSERT"),
    "part or all of the requested memory range is already mapped": (712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"),
    "pointer does not correspond to a registered memory region": (713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED"),
    "hardware stack error": (714, "CUDA_ERROR_HARDWARE_STACK_ERROR"),
    "an illegal instruction was encountered": (715, "CUDA_ERROR_ILLEGAL_INSTRUCTION"),
    "misaligned address": (716, "CUDA_ERROR_MISALIGNED_ADDRESS"),
    "operation not supported on global/shared address space": (717, "CUDA_ERROR_INVALID_ADDRESS_SPACE"),
    "invalid program counter": (718, "CUDA_ERROR_INVALID_PC"),
    "unspecified launch failure": (719, "CUDA_ERROR_LAUNCH_FAILED"),
    "operation not supported": (801, "CUDA_ERROR_NOT_SUPPORTED"),
    "system not yet initialized": (802, "CUDA_ERROR_SYSTEM_NOT_READY"),
    "system has unsupported display driver / cuda driver combination": (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    "forward compatibility was attempted on non supported HW": (804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"),
    "unknown error": (999, "CUDA_ERROR_UNKNOWN"),
}
_LOST = "the GPU's context is dead: end this process and start a new one"


def error_class(code: int) -> Type[BackendError]:
    """The class of ours for an error number of CUDA."""
    if code in STICKY:
        return DeviceLostError
    return BackendUnavailableError if code in UNAVAILABLE else BackendError


def cuda_error(call: str, code: int, name: str, text: str) -> BackendError:
    """The error for a call that CUDA answered with a number: its name, its text, and what to do."""
    found = ": ".join(part for part in (f"{name} ({code})", text) if part)
    remedy = _LOST if code in STICKY else _REMEDIES.get(code, "")
    return error_class(code)(f"{call}: {found}" + (f"; {remedy}" if remedy else ""))


def cuda_error_from_text(call: str, text: str) -> BackendError:
    """The error for a call that the driver answered with a text alone."""
    known = text.partition(" - ")[0]
    if known not in _DRIVER_TEXTS:
        return BackendError(f"{call}: {text}")
    return cuda_error(call, *_DRIVER_TEXTS[known], text)


def unsupported_graphs(library: str) -> BackendError:
    """The error for a capture on a library that has none."""
    return BackendError(f"{library} has no CUDA graphs; run without one, or install cuda-python")
