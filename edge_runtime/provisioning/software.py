"""What is installed for this Python, found out without importing it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping

from edge_runtime import onnxruntime_api, tensorrt_api
from edge_runtime.device.files import text_of
from edge_runtime.plan.board import ONNXRUNTIME

_VERSION_LINE = re.compile(r"^__version__\s*=\s*[\"']([0-9][0-9A-Za-z.+-]{0,63})[\"']", re.MULTILINE)


@dataclass(frozen=True)
class Software:
    """Versions of what matters here. Engine libraries go by name: None is absent, `unknown` has no version.

    `is_isolated`: this is a virtual environment that doesn't see the system's packages.
    """

    python: str
    glibc: str | None
    is_isolated: bool
    libraries: Mapping[str, str | None]

    @property
    def tensorrt(self) -> str | None:
        """The version of TensorRT itself."""
        return self.libraries.get(tensorrt_api.FULL)

    @property
    def python_minor(self) -> str:
        """Such as `3.10`."""
        return ".".join(self.python.split(".")[:2])


def installed_software() -> Software:
    """What this Python has."""
    return Software(
        python=platform.python_version(),
        glibc=_glibc(),
        is_isolated=_is_isolated(Path(sys.prefix), Path(sys.base_prefix)),
        libraries=installed_libraries(),
    )


def installed_libraries() -> Dict[str, str | None]:
    """Versions of the engine libraries by name."""
    others = {name: tensorrt_api.installed(name) for name in tensorrt_api.LIBRARIES if name != tensorrt_api.FULL}
    return {tensorrt_api.FULL: installed_tensorrt(), **others, ONNXRUNTIME: onnxruntime_api.version()}


def installed_tensorrt() -> str | None:
    """The version of TensorRT that `import tensorrt` would find, without importing it; None if it would find none."""
    version = tensorrt_api.installed(tensorrt_api.FULL)
    if version != "unknown":
        return version
    found = importlib.util.find_spec(tensorrt_api.FULL)
    match = _VERSION_LINE.search(text_of(Path(found.origin))) if found is not None and found.origin else None
    return match.group(1) if match else version


def _glibc() -> str | None:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return None
    return text.rpartition(" ")[2] or None


def _is_isolated(prefix: Path, base: Path) -> bool:
    if prefix == base:
        return False
    shared = re.search(r"^include-system-site-packages\s*=\s*true\s*$", text_of(prefix / "pyvenv.cfg"), re.M | re.I)
    return shared is None
