"""Where a service is installed: what of it depends on the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from edge_runtime.device.files import text_of
from edge_runtime.device.permissions import read_permissions
from edge_runtime.errors import ConfigError

_HIDDEN = ("/home", "/root", "/run/user")  # by ProtectHome=yes
_GROUPS = ("video", "render")
_PACKAGE = re.compile(r"^Package: systemd\n(?:(?!\n).+\n)*?Version: (?:\d+:)?(\d+)", re.MULTILINE)
_MINIMUM = 237  # JetPack 4
_STATUS_NBYTES = 64 << 20


@dataclass(frozen=True)
class Site:
    """A machine, or the image of one below `root`; paths in units are as seen there.

    `nodes` are the device nodes of its GPU that exist, below /dev; `groups` those of their groups that exist.
    """

    root: Path
    program: Path
    systemd: int
    nodes: Tuple[str, ...] = ()
    groups: Tuple[str, ...] = ()

    @property
    def has_credentials(self) -> bool:
        """Whether `LoadCredential=` is known there."""
        return self.systemd >= 247


def read_site(root: Path, program: Path) -> Site:
    """Looks at the machine below `root`.

    Raises:
        ConfigError: it has no systemd, one that is too old, or a service couldn't run the program.
    """
    version = _systemd_version(root)
    if version is None:
        raise ConfigError(f"{root}: no systemd there; edge-runtime serve runs by hand, and in containers")
    if version < _MINIMUM:
        raise ConfigError(f"{root}: expected systemd {_MINIMUM} or later, got {version}")
    check_program(program, root)
    lines = text_of(root / "etc/group").splitlines()
    there = {line.partition(":")[0] for line in lines}
    return Site(
        root=root,
        program=program,
        systemd=version,
        nodes=tuple(node.name for node in read_permissions(root).nodes),
        groups=tuple(group for group in _GROUPS if group in there),
    )


def own_program(executable: str) -> Path:
    """The command `edge-runtime` of the Python that runs this."""
    return Path(os.path.abspath(executable)).parent / "edge-runtime"  # noqa: PTH100  (links of a venv stay)


def check_program(program: Path, root: Path = Path("/")) -> None:
    """Raises ConfigError unless a service's user, who sees no home folders, can run the program.

    Below another root than / only its own path can be judged.
    """
    if not program.is_absolute():
        raise ConfigError(f"--program {program}: expected an absolute path")
    if re.search(r"[\s\"'\\;]", str(program)):
        raise ConfigError(f"--program {program}: units can't name a path with blanks, quotes or backslashes; move it")
    paths = [program]
    if root == Path("/"):
        if not os.access(program, os.X_OK):
            raise ConfigError(f"--program {program}: no such command; install edge_runtime, or name it by --program")
        interpreter = _interpreter(program)
        paths += [program.resolve(), *((interpreter, interpreter.resolve()) if interpreter is not None else ())]
    for path in paths:
        if any(folder in map(str, path.parents) for folder in _HIDDEN):
            raise ConfigError(
                f"--program {program}: {path} lies in a home folder, which services can't see; install it into one "
                "that they can: python3 -m venv --system-site-packages /opt/edge-runtime && "
                "/opt/edge-runtime/bin/pip install …, then /opt/edge-runtime/bin/edge-runtime install-unit"
            )


def _interpreter(program: Path) -> Path | None:
    """What a script names in its first line."""
    first = text_of(program, 512).partition("\n")[0]
    words = first[2:].split()
    return Path(words[0]) if first.startswith("#!") and words else None


def _systemd_version(root: Path) -> int | None:
    found = _PACKAGE.search(text_of(root / "var/lib/dpkg/status", _STATUS_NBYTES))
    if found is not None:
        return int(found.group(1))
    if root != Path("/") or shutil.which("systemctl") is None:
        return None
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"systemd (\d+)", done.stdout)
    return int(match.group(1)) if match else None
