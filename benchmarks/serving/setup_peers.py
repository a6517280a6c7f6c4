"""Sets up what the benchmark compares with, below `.bench/`: once, and anew only where what is wanted has changed.

    PYTHONPATH=benchmarks python -m serving.setup_peers [triton] [mlserver] [tools]

A peer that can't be set up is named with the reason; the benchmark then goes without it. Nothing is installed outside
`.bench/`: packages of Debian are unpacked, not installed.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Sequence

from serving.places import BENCH, MLSERVER, PYTRITON, TOOLS, TRITON, TRITON_BACKENDS

_PEER_PYTHON = Path("/usr/bin/python3")  # not pyenv's: Triton's stub links this one's libpython
_WHEELS = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12")
_H2LOAD_PACKAGES = ("nghttp2-client", "libnghttp2-14", "libev4", "libjansson4", "libjemalloc2", "libxml2", "libssl3")


class SetupError(Exception):
    """A peer can't be set up; the message says why."""


def main() -> None:
    """Sets up what the command line names, or all."""
    for name in sys.argv[1:] or list(_MAKERS):
        reason = set_up(name)
        print(f"{name}: {'ready' if reason is None else f'not set up: {reason}'}", flush=True)


def set_up(name: str) -> str | None:
    """Why a peer can't be set up; None if it is."""
    if why_not_set_up(name) is None:
        return None
    print(f"{name}: setting it up below {BENCH}", flush=True)
    mark = _mark(name)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text("interrupted")
    try:
        _MAKERS[name]()
    except (SetupError, OSError) as error:
        mark.write_text(" ".join(str(error).split()))
        return str(error)
    mark.write_text(_wanted(name))
    return None


def why_not_set_up(name: str) -> str | None:
    """The reason for which a peer isn't there; None if it is."""
    mark = _mark(name)
    found = mark.read_text() if mark.is_file() else ""
    if found == _wanted(name):
        return None
    what = "an older one is" if found.startswith("for ") else found
    return f"not set up{f' ({what})' if what else ''}; make serving-peers"


def _mark(name: str) -> Path:
    return BENCH / "set-up" / name


def _wanted(name: str) -> str:
    return f"for {' '.join(_PACKAGES[name])}"


def _engine() -> List[str]:
    return [f"onnxruntime=={metadata.version('onnxruntime')}", "numpy"]


def _make_triton() -> None:
    if not _PEER_PYTHON.exists():
        raise SetupError(f"{_PEER_PYTHON} isn't there; on Debian: apt-get install python3")
    _make_venv(_PEER_PYTHON, TRITON)
    _install(TRITON, _PACKAGES["triton"])
    package = _inside(TRITON, "pytriton/tritonserver")
    version = package.parents[2].name.replace("python", "")
    folder = package / "python_backend_stubs" / version
    if not folder.is_dir():
        raise SetupError(f"PyTriton has no stub for Python {version} ({_PEER_PYTHON})")
    shutil.rmtree(TRITON_BACKENDS, ignore_errors=True)
    shutil.copytree(package / "backends", TRITON_BACKENDS)
    stub = Path(shutil.copy(folder / "triton_python_backend_stub", TRITON_BACKENDS / "python"))
    stub.chmod(0o755)
    listed = _said(["ldd", str(stub)], {"LD_LIBRARY_PATH": triton_libraries()})
    missing = [line.split()[0] for line in listed.splitlines() if "not found" in line]
    if missing:
        raise SetupError(f"Triton's stub lacks {', '.join(missing)}; on Debian: apt-get install libpython{version}")


def triton_libraries() -> str:
    """The folder of the libraries that PyTriton's wheel brings; a copied stub doesn't find them by itself."""
    return str(_inside(TRITON, "nvidia_pytriton.libs"))


def triton_binary() -> str:
    """The server in PyTriton's wheel."""
    return str(_inside(TRITON, "pytriton/tritonserver/bin/tritonserver"))


def _inside(venv: Path, path: str) -> Path:
    for found in venv.glob(f"lib/python*/site-packages/{path}"):
        return found
    raise SetupError(f"{path} isn't in {venv}")


def _make_mlserver() -> None:
    _make_venv(Path(sys.executable), MLSERVER)
    _install(MLSERVER, _PACKAGES["mlserver"])


def _make_tools() -> None:
    (TOOLS / "bin").mkdir(parents=True, exist_ok=True)
    (TOOLS / "lib").mkdir(exist_ok=True)
    if not shutil.which("h2load"):
        _unpack_debian(_H2LOAD_PACKAGES)
    _unpack_debian(["libb64-0d"])
    for library in (TOOLS / "usr" / "lib").glob("*/libb64.so*"):
        shutil.copy(library, TOOLS / "lib")
    with tempfile.TemporaryDirectory() as folder:
        _pip(["download", "--no-deps", "-d", folder, *_WHEELS])
        for wheel in Path(folder).glob("*.whl"):
            _take(wheel, "perf_analyzer", TOOLS / "bin")
            _take(wheel, "libcudart.so.12", TOOLS / "lib")
    _said([str(TOOLS / "bin" / "perf_analyzer"), "--version"], {"LD_LIBRARY_PATH": str(TOOLS / "lib")})


def _take(wheel: Path, name: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            if Path(entry).name == name:
                (folder / name).write_bytes(archive.read(entry))
                (folder / name).chmod(0o755)


def _unpack_debian(packages: Sequence[str]) -> None:
    if not shutil.which("apt-get"):
        raise SetupError(f"no apt-get here to fetch {', '.join(packages)}")
    with tempfile.TemporaryDirectory() as folder:
        _said(["apt-get", "download", "-q", *packages], folder=folder)
        for package in Path(folder).glob("*.deb"):
            _said(["dpkg-deb", "-x", str(package), str(TOOLS)])


def _make_venv(python: Path, folder: Path) -> None:
    if not (folder / "bin" / "python").exists():
        _said([str(python), "-m", "venv", "--without-pip", str(folder)])


def _install(venv: Path, requirements: Sequence[str]) -> None:
    _pip(["--python", str(venv / "bin" / "python"), "install", "-q", *requirements])


def _pip(words: Sequence[str]) -> None:
    _said([sys.executable, "-m", "pip", "--disable-pip-version-check", *words])


def _said(command: Sequence[str], env: Dict[str, str] | None = None, folder: str | None = None) -> str:
    done = subprocess.run(
        list(command), check=False, env=env, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        lines = [line for line in done.stdout.strip().splitlines() if not line.startswith("WARNING")]
        with contextlib.suppress(StopIteration):
            lines = [next(line for line in lines if line.upper().startswith(("ERROR", "E:")))]
        raise SetupError(f"{Path(command[0]).name}: {lines[-1] if lines else f'status {done.returncode}'}")
    return done.stdout


_PACKAGES: Dict[str, List[str]] = {
    "triton": [PYTRITON, *_engine()],
    "mlserver": ["mlserver==1.7.1", "uvloop<0.22", *_engine()],
    "tools": list(_WHEELS),
}
_MAKERS = {"triton": _make_triton, "mlserver": _make_mlserver, "tools": _make_tools}


if __name__ == "__main__":
    main()
