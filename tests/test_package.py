"""What the package promises as a whole: its names, what importing it needs, and whose licences come with it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import edge_runtime

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).replace(".__init__", "")
    for path in (ROOT / "edge_runtime").rglob("*.py")
)
GPU_LIBRARIES = ("tensorrt", "tensorrt_rtx", "tensorrt_lean", "cuda", "pycuda", "pynvml", "jtop")


def test_the_public_names() -> None:
    assert edge_runtime.__all__ == [
        "AsyncClient",
        "Client",
        "Credentials",
        "EdgeRuntimeError",
        "Engine",
        "build",
        "load",
    ]
    for name in edge_runtime.__all__:
        assert getattr(edge_runtime, name).__name__ == name
    assert set(edge_runtime.__all__) <= set(dir(edge_runtime))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        edge_runtime.lod  # noqa: B018


def test_every_module_imports_without_gpu_libraries_and_without_side_effects() -> None:
    code = (
        "import sys, threading\n"
        f"blocked = {GPU_LIBRARIES!r}\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "at_start = set(sys.modules)\n"  # cuda-python puts itself there by a .pth file
        f"for name in {MODULES!r}: __import__(name)\n"
        "assert not set(blocked) & (set(sys.modules) - at_start)\n"
        "assert threading.active_count() == 1\n"
        "print('onnxruntime' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def requirements(name: str) -> list[str]:
    """Names of the distributions that one needs by default on this machine."""
    from packaging.requirements import Requirement

    parsed = [Requirement(text) for text in metadata.requires(name) or ()]
    return [r.name for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]


def test_the_default_install_has_no_gpl_in_it() -> None:
    seen: set[str] = set()
    waiting = ["edge-runtime"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += requirements(name)
    assert len(seen) > 20
    for name in seen:
        about = metadata.metadata(name)
        licence = " ".join([*(about.get_all("Classifier") or ()), about.get("License-Expression", "")])
        licence += about.get("License", "")[:200]
        assert not re.search(r"\bA?GPL|GNU (Affero )?General Public", licence), f"{name}: {licence}"


def test_the_extras_are_the_documented_ones() -> None:
    extras = metadata.metadata("edge-runtime").get_all("Provides-Extra")
    boards = {"jp4", "jp5", "jp6", "jp7"}
    assert set(extras or ()) == {"tensorrt", "cuda", "pycuda", "jetson", "nvml", "report", "dev", *boards}
    wanted = [text for text in metadata.requires("edge-runtime") or () if 'extra == "tensorrt"' in text]
    assert all("aarch64" in text for text in wanted), "JetPack brings TensorRT on aarch64"
