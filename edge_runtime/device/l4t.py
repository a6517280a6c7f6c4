"""Which release of Jetson Linux (L4T) a board runs, and what its JetPack ships."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Tuple

from edge_runtime.device.files import bytes_of, text_of

_STATUS_LIMIT = 64 << 20
_ENTRY_LIMIT = 64 << 10
_MOST_ENTRIES = 4
_PACKAGE = re.compile(rb"^Package: nvidia-l4t-core$", re.MULTILINE)
_INSTALLED = re.compile(r"^Status: \S+ \S+ installed$", re.MULTILINE)
_VERSION = re.compile(r"^Version: ([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})(?:[-+~]|$)", re.MULTILINE)
_RELEASE = re.compile(r"R([0-9]{1,4}) \(release\), REVISION: ([0-9]{1,4}(?:\.[0-9]{1,4}){0,2})")


@dataclass(frozen=True)
class JetPack:
    """A JetPack and what it ships.

    Of a release that isn't known here only the major number is: `name` is `6.x`, and what it ships is None.
    """

    name: str
    cuda: str | None = None
    tensorrt: str | None = None
    python: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether it is known which JetPack of its major number this is."""
        return self.cuda is not None

    @property
    def major(self) -> int:
        """4 to 7."""
        return int(self.name.partition(".")[0])


_CUDA_TENSORRT_PYTHON = {
    "4.6": ("10.2", "8.0.1", "3.6"),
    "4.6.1": ("10.2", "8.2.1", "3.6"),
    "5.0.2": ("11.4", "8.4.1", "3.8"),
    "5.1": ("11.4", "8.5.2", "3.8"),
    "6.0": ("12.2", "8.6.2", "3.10"),
    "6.1": ("12.6", "10.3.0", "3.10"),
    "6.2": ("12.6", "10.3.0.30", "3.10"),
    "7.0": ("13.0", "10.13", "3.12"),
    "7.1": ("13.0", "10.13.3", "3.12"),
    "7.2": ("13.2", "10.16", "3.12"),
}
# L4T release, its JetPack, and the JetPack above whose libraries it has; a release of two numbers stands for all of it.
_JETPACKS = {
    "32.6.1": ("4.6", "4.6"),
    "32.7.1": ("4.6.1", "4.6.1"),
    "32.7.2": ("4.6.2", "4.6.1"),
    "32.7.3": ("4.6.3", "4.6.1"),
    "32.7.4": ("4.6.4", "4.6.1"),
    "32.7.5": ("4.6.5", "4.6.1"),
    "32.7.6": ("4.6.6", "4.6.1"),
    "35.1": ("5.0.2", "5.0.2"),
    "35.2.1": ("5.1", "5.1"),
    "35.3.1": ("5.1.1", "5.1"),
    "35.4.1": ("5.1.2", "5.1"),
    "35.5.0": ("5.1.3", "5.1"),
    "35.6.0": ("5.1.4", "5.1"),
    "35.6.1": ("5.1.5", "5.1"),
    "35.6.2": ("5.1.5", "5.1"),
    "35.6.4": ("5.1.6", "5.1"),
    "36.3.0": ("6.0", "6.0"),
    "36.4.0": ("6.1", "6.1"),
    "36.4.3": ("6.2", "6.2"),
    "36.4.4": ("6.2.1", "6.2"),
    "36.4.7": ("6.2.1", "6.2"),
    "36.5.0": ("6.2.2", "6.2"),
    "38.2": ("7.0", "7.0"),
    "38.4.0": ("7.1", "7.1"),
    "39.2.0": ("7.2", "7.2"),
    "39.2.1": ("7.2.1", "7.2"),
}
_MAJORS = {32: 4, 35: 5, 36: 6, 38: 7, 39: 7}


def l4t_release(root: Path = Path("/")) -> str:
    """The release below `root`, such as `36.4.7`: that of the package, else of the release file; "" if unknown."""
    return _packaged(root / "var/lib/dpkg/status") or _released(root / "etc/nv_tegra_release")


def jetpack_from_l4t(release: str) -> JetPack | None:
    """The JetPack of an L4T release; None where not even its major number is known."""
    numbers = _numbers(release)
    if not numbers:
        return None
    for length in (3, 2):
        found = _JETPACKS.get(".".join(str(number) for number in numbers[:length]))
        if found is not None:
            name, libraries = found
            return JetPack(name, *_CUDA_TENSORRT_PYTHON[libraries])
    major = _MAJORS.get(numbers[0])
    return None if major is None else JetPack(f"{major}.x")


def _numbers(release: str) -> Tuple[int, ...]:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}", release):
        return ()
    numbers = [int(part) for part in release.split(".")]
    return (*numbers, 0)[:3]


def _packaged(path: Path) -> str:
    content = bytes_of(path, _STATUS_LIMIT)
    for match in islice(_PACKAGE.finditer(content), _MOST_ENTRIES):
        entry = content[match.start() : match.start() + _ENTRY_LIMIT].partition(b"\n\n")[0].decode(errors="replace")
        version = _VERSION.search(entry)
        if version and _INSTALLED.search(entry):
            return version.group(1)
    return ""


def _released(path: Path) -> str:
    match = _RELEASE.search(text_of(path))
    if match is None:
        return ""
    major, revision = match.groups()
    return ".".join((major, revision if "." in revision else f"{revision}.0"))
