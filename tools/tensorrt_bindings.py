"""NVIDIA's own Python bindings of several TensorRT versions, importable without TensorRT and without a GPU.

The bindings are wheels of about 1 MB. What they link to is stood in for by libraries that have the same symbols and do
nothing, so that every class, enum and signature can be looked at, and callbacks can be subclassed; builders and
runtimes can't be made. `python tools/tensorrt_bindings.py FOLDER` fetches and unpacks them for the Python that runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Dict, List

# JetPack 5 and 6.0, JetPack 6.1 on, JetPack 7, and what comes after.
VERSIONS = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.13": "tensorrt-cu12-bindings==10.13.3.9",
    "11.4": "tensorrt-cu12-bindings==11.4.0.106",
}

_STAMP = "described-2"  # counts what surface.json holds
_PROGRAMS = ("gcc", "nm", "readelf")
_SURFACE = """
import json, sys
import tensorrt_bindings as trt

def described(owner):
    members = getattr(owner, "__members__", None)
    numbers = {name: int(value) for name, value in members.items()} if isinstance(members, dict) else None
    found = {name: attribute(owner, name) for name in dir(owner)}
    return {"enum": numbers, "doc": owner.__doc__ or "", "attributes": found}

def attribute(owner, name):
    value = next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)
    is_property = isinstance(value, property)
    return {
        "kind": type(value).__name__,
        "doc": str(getattr(value, "__doc__", "") or ""),
        "is_readable": not is_property or value.fget is not None,
        "is_writable": is_property and value.fset is not None,
    }

surface = {"version": trt.__version__, "names": sorted(dir(trt)), "functions": {}, "classes": {}}
for name in dir(trt):
    value = getattr(trt, name)
    if isinstance(value, type):
        surface["classes"][name] = described(value)
    elif callable(value):
        surface["functions"][name] = value.__doc__ or ""
surface["classes"]["Severity"] = described(type(trt.ILogger.ERROR))
json.dump(surface, sys.stdout)
"""


def prepare(folder: Path) -> List[str]:
    """Fetches what isn't there yet; the versions that exist for this Python."""
    found = []
    for version, requirement in VERSIONS.items():
        target = folder / version
        if not (target / _STAMP).exists():
            wheel = _downloaded(requirement, folder / "wheels" / version)
            if wheel is None:
                continue
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
            _make_stubs(target)
            (target / "surface.json").write_text(_run(target, _SURFACE))
            (target / _STAMP).touch()
        found.append(version)
    return found


def environment(target: Path) -> Dict[str, str]:
    """What a process needs to import `tensorrt_bindings` from an unpacked wheel."""
    path = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    return {**os.environ, "LD_LIBRARY_PATH": str(target / "stubs"), "PYTHONPATH": path}


def _downloaded(requirement: str, folder: Path) -> Path | None:
    """The wheel; None where there is none for this Python."""
    found = next(iter(folder.glob("*.whl")), None)
    if found is not None:
        return found
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "download", "--no-deps"]
    command += ["--only-binary=:all:", "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" not in done.stderr:
        raise SystemExit(f"{requirement}: can't be fetched: {done.stderr.strip()}")
    return next(iter(folder.glob("*.whl")), None)


def _make_stubs(target: Path) -> None:
    """Libraries with the names and the symbols that the bindings ask for."""
    binding = target / "tensorrt_bindings/tensorrt.so"
    needed = re.findall(r"\(NEEDED\).*\[(libnv[^]]+)\]", _output("readelf", "-d", str(binding)))
    symbols = re.findall(
        r" U (_ZN\d+nv\w+|create\w+_INTERNAL|get\w+|initLib\w+)$",
        _output("nm", "-D", "--undefined-only", str(binding)),
        re.MULTILINE,
    )
    stubs = target / "stubs"
    stubs.mkdir(exist_ok=True)
    source = stubs / "stub.c"
    source.write_text("".join(f"void *{symbol}() {{ return 0; }}\n" for symbol in symbols))
    for library in needed:
        _output("gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{library}", "-o", str(stubs / library), str(source))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _run(target: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment(target),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{target}: the bindings can't be imported: {done.stderr.strip()[-500:]}")
    return done.stdout


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"NVIDIA's bindings are left out, for {', '.join(missing)} isn't there; install binutils and gcc")  # noqa: T201
        return
    found = prepare(folder)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
