"""Findings about Python and the libraries: those that this Python sees, and those that JetPack has for it."""

from __future__ import annotations

from typing import List, Tuple

from edge_runtime import tensorrt_api
from edge_runtime.device.files import names_in
from edge_runtime.plan.board import ONNXRUNTIME
from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding, Situation

_SYSTEM_ENVIRONMENT = "/usr/bin/python3 -m venv --system-site-packages .venv"
_DOCUMENT = "docs/jetson.md"


def python_finding(situation: Situation) -> Finding:
    """Python and the C library, against the Python that JetPack's libraries are for."""
    software, jetpack = situation.software, situation.device.jetpack
    libc = f"glibc {software.glibc}" if software.glibc else "a C library of unknown version"
    text = f"{software.python} on {situation.device.machine}, {libc}"
    wanted = None if jetpack is None else jetpack.python
    has_libraries = software.tensorrt is not None or situation.is_container
    if wanted is None or has_libraries or wanted == software.python_minor:
        return Finding("python", OK, text)
    return Finding("python", WARNING, f"{text}; JetPack's own libraries are for Python {wanted}", _other_python(wanted))


def tensorrt_finding(situation: Situation) -> Finding:
    """TensorRT as this Python sees it, and the way to it where it doesn't."""
    version = situation.software.tensorrt
    if version is not None:
        return Finding("tensorrt", OK, f"{version}, seen by this Python")
    if not situation.device.has_gpu:
        return Finding("tensorrt", OK, "not installed, and not needed: there is no GPU for it")
    rtx = situation.software.libraries.get(tensorrt_api.RTX)
    if rtx is not None and not situation.is_jetson:
        return Finding("tensorrt", OK, f"not installed; TensorRT-RTX {rtx} takes its place")
    text, remedy = _missing_tensorrt(situation)
    return Finding("tensorrt", situation.gpu_fault, text, remedy)


def onnxruntime_finding(situation: Situation) -> Finding:
    """ONNX Runtime, which calibrates and checks on every machine."""
    version = situation.software.libraries.get(ONNXRUNTIME)
    if version is None:
        return Finding("onnxruntime", FAILED, "not installed", "pip install onnxruntime")
    return Finding("onnxruntime", OK, f"{version} on the CPU")


def system_tensorrt(situation: Situation) -> List[Tuple[str, str]]:
    """Folders with the system's TensorRT, each with the Python that it is for (`3` where any)."""
    library = situation.root / "usr/lib"
    found = []
    for name in names_in(library):
        if name.startswith("python3"):
            packages = library / name / "dist-packages"
            if any(package.startswith("tensorrt") for package in names_in(packages)):
                found.append((f"/usr/lib/{name}/dist-packages", name[len("python") :]))
    return found


def _missing_tensorrt(situation: Situation) -> Tuple[str, str]:
    software = situation.software
    folders = system_tensorrt(situation)
    fitting = [folder for folder, python in folders if python in ("3", software.python_minor)]
    if fitting and software.is_isolated:
        text = f"{fitting[0]} has it, but this virtual environment was made without --system-site-packages"
        return text, _SYSTEM_ENVIRONMENT
    if fitting:
        return f"{fitting[0]} has it, but this Python doesn't look there", _SYSTEM_ENVIRONMENT
    if folders:
        folder, python = folders[0]
        return f"{folder} has it for Python {python}; this is Python {software.python_minor}", _other_python(python)
    if not situation.is_jetson:
        return "not installed", situation.install_line
    if situation.is_container:
        return "not in this container", f"start from an image that has it: {_DOCUMENT}"
    return "not installed: it comes with JetPack", "sudo apt-get install python3-libnvinfer"


def _other_python(version: str) -> str:
    if version == "3.6":
        return f"build TensorRT's bindings for this Python: {_DOCUMENT}"
    return _SYSTEM_ENVIRONMENT
