"""Resolves this project for each JetPack as pip would on the board, and fills wheelhouses for boards without a network.

    python tools/check_wheels.py [--target jp6]... [--wheelhouse FOLDER]

pip's own resolver runs with the Python, the C library and the markers of the board, and takes nothing but wheels; of
packages that have none at all, the sources are for the board to compile. Exit status 1 names every other package
without a wheel, and what to do about it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = "edge-runtime"
# What packages that are published as sources only need to run, and to be built, as their own metadata says.
SOURCE_ONLY = {"pycuda": ("mako", "platformdirs>=2.2", "pytools>=2011.2")}
TO_BUILD_SOURCES = ("numpy>=1.24", "setuptools", "wheel")
# pip evaluates markers, and `pip install` Requires-Python, for the interpreter that it runs in, whatever
# --python-version and --platform say.
PIP = """
import json, sys
from pip._internal.cli.main import main
from pip._internal.cli.req_command import RequirementCommand
from pip._vendor.packaging import markers
here, make = markers.default_environment, RequirementCommand.make_resolver.__func__
python = tuple(map(int, json.loads(sys.argv[1])["python_full_version"].split(".")))
markers.default_environment = lambda: {**here(), **json.loads(sys.argv[1])}
RequirementCommand.make_resolver = classmethod(lambda cls, **given: make(cls, **{**given, "py_version_info": python}))
sys.exit(main(sys.argv[2:]))
"""


@dataclass(frozen=True)
class Target:
    """A JetPack: the Python that runs there, as Ubuntu ships it, and the minor version of its C library."""

    name: str
    python: str
    glibc: int

    @property
    def markers(self) -> Dict[str, str]:
        """The environment that markers are evaluated in."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": "aarch64",
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.python,
            "python_version": self.python.rpartition(".")[0],
            "sys_platform": "linux",
        }

    @property
    def platforms(self) -> List[str]:
        """Platform tags that its C library satisfies, newest first."""
        tags = [f"manylinux_2_{minor}_aarch64" for minor in range(self.glibc, 16, -1)]
        return [*tags, "manylinux2014_aarch64", "linux_aarch64"]


# Ubuntu 18.04 has Python 3.8 in universe, and there it is 3.8.0.
TARGETS = {
    target.name: target
    for target in (
        Target("jp4", "3.8.0", 27),
        Target("jp5", "3.8.10", 31),
        Target("jp6", "3.10.12", 35),
        Target("jp7", "3.12.3", 39),
    )
}


@dataclass(frozen=True)
class Wheel:
    """A resolved package: its normalised name, its version, and the tag of its wheel."""

    name: str
    version: str
    tag: str


class UnresolvedError(Exception):
    """pip found no set of wheels; `package` is the one without a wheel, "" if versions contradict each other."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        found = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)", output)
        self.package = canonicalize_name(found.group(1)) if found else ""


def requirements_for(target: Target, pyproject: Path = ROOT / "pyproject.toml") -> Tuple[List[str], List[str]]:
    """What the project and the target's extra require there: of wheels, and of packages that only have sources."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wheels: List[str] = []
    sources: List[str] = []
    for text in [*project["dependencies"], *project["optional-dependencies"][target.name]]:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({**target.markers, "extra": ""}):
            wanted.marker = None
            (sources if canonicalize_name(wanted.name) in SOURCE_ONLY else wheels).append(str(wanted))
    for text in sources:
        wheels += SOURCE_ONLY[canonicalize_name(Requirement(text).name)]
    return wheels, sources


def pip_for(target: Target, command: str, *arguments: str) -> None:
    """Runs one pip command for the target, wheels only.

    Raises:
        UnresolvedError: it failed.
    """
    platforms = [part for tag in target.platforms for part in ("--platform", tag)]
    python = ["--python-version", target.python, "--implementation", "cp", "--only-binary=:all:"]
    options = ["--disable-pip-version-check", "--quiet", "--retries", "2", *platforms, *python]
    environ = dict(os.environ)
    if "--no-index" in arguments:
        environ = {name: value for name, value in environ.items() if not name.startswith("PIP_")}
        environ["PIP_CONFIG_FILE"] = os.devnull
    words = [sys.executable, "-c", PIP, json.dumps(target.markers), command, *options, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    if done.returncode and "Retrying (Retry" in done.stderr:
        raise SystemExit(f"{target.name}: the package index doesn't answer; set PIP_INDEX_URL to one that does")
    if done.returncode:
        raise UnresolvedError(done.stderr)


def resolve(target: Target, wanted: Sequence[str], *options: str) -> List[Wheel]:
    """The wheels that pip would install on the target, by name.

    Raises:
        UnresolvedError: there is no set of wheels that satisfies all of `wanted`.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        dry = ["--dry-run", "--ignore-installed", "--target", folder, "--report", str(report)]
        pip_for(target, "install", *dry, *options, *wanted)
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    return sorted((_wheel(item) for item in items), key=lambda wheel: wheel.name)


def _wheel(item: Dict[str, Dict[str, str]]) -> Wheel:
    file = item["download_info"]["url"].rsplit("/", 1)[-1]
    tag = "-".join(file[: -len(".whl")].split("-")[-3:])
    return Wheel(canonicalize_name(item["metadata"]["name"]), item["metadata"]["version"], tag)


def missing_wheels(target: Target, wanted: Sequence[str], *options: str) -> Dict[str, str]:
    """Each package of `wanted`, or below it, that has no wheel for the target, and what to do about it."""
    missing = {}
    for text in wanted:
        try:
            resolve(target, [text], *options)
        except UnresolvedError as error:
            name = error.package or canonicalize_name(Requirement(text).name)
            missing[name] = _remedy(target, name, text, *options)
    return missing


def _remedy(target: Target, name: str, text: str, *options: str) -> str:
    try:
        (newest,) = resolve(target, [name], "--no-deps", *options)
    except UnresolvedError:
        return f"no version has a wheel for it; leave {name} out there by a marker, or compile it on the board"
    return f"the newest version with a wheel is {newest.version}; let {text} of pyproject.toml take it"


def fill(target: Target, folder: Path, *options: str) -> None:
    """Puts the target's wheels, this project's, and requirements.txt with their hashes into `folder`.

    What was there is replaced. Sources that the board compiles come with what building them needs, and pip comes along
    since JetPack's is too old.

    Raises:
        UnresolvedError: a wheel is missing, or the filled folder doesn't install by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]:
        old.unlink()
    wanted, sources = requirements_for(target)
    found = resolve(target, [*wanted, *(TO_BUILD_SOURCES if sources else ()), "pip"], *options)
    pins = [f"{wheel.name}=={wheel.version}" for wheel in found]
    pip_for(target, "download", "--no-deps", "--dest", str(folder), *options, *pins)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    for text in sources:
        name = Requirement(text).name
        subprocess.run([*pip, "download", "--no-deps", "--no-binary", name, "--dest", str(folder), text], check=True)
    _build_project(pip, folder)
    (folder / "requirements.txt").write_text(pinned(folder), encoding="utf-8")
    mine = [PROJECT, *wanted] if sources else [f"{PROJECT}[{target.name}]"]
    resolve(target, mine, "--no-index", "--find-links", str(folder))


def _build_project(pip: Sequence[str], folder: Path) -> None:
    """Builds this project's wheel from a copy, so that an older build folder can't leak into it."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(ROOT / "edge_runtime", Path(copy, "edge_runtime"), ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), copy], check=True)


def pinned(folder: Path) -> str:
    """The text of a requirements file that pins each file of a wheelhouse to its hash; pip itself is left out."""
    lines = []
    for path in sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")]):
        is_wheel = path.suffix == ".whl"
        name, version = parse_wheel_filename(path.name)[:2] if is_wheel else parse_sdist_filename(path.name)
        if name != "pip":
            lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return "".join(lines)


def check(target: Target, *options: str) -> Tuple[List[Tuple[str, ...]], List[str]]:
    """Rows of the table for one target, and a line for each package without a wheel."""
    wanted, sources = requirements_for(target)
    try:
        found = resolve(target, wanted, *options)
    except UnresolvedError as error:
        missing = missing_wheels(target, wanted, *options) or {"the versions": f"contradict each other:\n{error}"}
        where = f"{target.name} (Python {target.python}, glibc 2.{target.glibc})"
        return [], [f"{where}: {name}: {what}" for name, what in missing.items()]
    rows: List[Tuple[str, ...]] = [(target.name, wheel.name, wheel.version, wheel.tag) for wheel in found]
    parsed = [Requirement(text) for text in sources]
    rows += [(target.name, r.name, str(r.specifier), "sources only: compiles on the board") for r in parsed]
    return rows, []


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks, or fills wheelhouses; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="a JetPack; all if none is given")
    parser.add_argument("--wheelhouse", type=Path, help="fill FOLDER/TARGET with the wheels", metavar="FOLDER")
    given = parser.parse_args(arguments)
    rows: List[Tuple[str, ...]] = [("target", "package", "version", "wheel")]
    missing: List[str] = []
    for name in given.target or TARGETS:
        found, lines = check(TARGETS[name])
        rows += found
        missing += lines
        if given.wheelhouse and not lines:
            fill(TARGETS[name], given.wheelhouse / name)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        sys.stdout.write("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]) + "\n")
    for line in missing:
        sys.stderr.write(f"no wheel: {line}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
