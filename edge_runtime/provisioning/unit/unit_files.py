"""What a unit of systemd says as installed: its file and its drop-ins, in the order in which systemd reads them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from edge_runtime.device.files import names_in, text_of, whole_number
from edge_runtime.provisioning.unit.places import below

_FOLDERS = tuple(map(Path, ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")))
_CGROUPS = tuple(map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")))


@dataclass(frozen=True)
class InstalledUnit:
    """A unit by name on the machine below `root`; `settings` are its `Key=value` lines, those of later files last."""

    root: Path
    name: str
    settings: Tuple[Tuple[str, str], ...]

    def values(self, key: str) -> List[str]:
        """All values of a key that makes a list; an empty one takes back those before it, as in systemd."""
        found: List[str] = []
        for name, value in self.settings:
            if name == key:
                found = [*found, value] if value else []
        return found

    def value(self, key: str) -> str:
        """The value of a key that has one; "" where it isn't set."""
        return next(iter(self.values(key)[::-1]), "")

    @property
    def environ(self) -> Dict[str, str]:
        """The variables that its processes are given, as far as files say it."""
        named = [word for line in self.values("Environment") for word in _words(line)]
        for path in self.values("EnvironmentFile"):
            file = Path(path[1:] if path.startswith("-") else path)
            lines = _lines(text_of(below(self.root, file))) if file.is_absolute() else ()
            named += [word for line in lines for word in _words(line)]
        variables = dict(word.split("=", 1) for word in named if "=" in word)
        state = self.value("StateDirectory").split()
        return {**variables, "STATE_DIRECTORY": f"/var/lib/{state[0]}"} if state else variables

    @property
    def pids(self) -> List[int]:
        """Its processes, the first one first; none while it isn't running."""
        for folder in _CGROUPS:
            text = text_of(below(self.root, folder / "system.slice" / self.name / "cgroup.procs"))
            found = sorted(number for number in map(whole_number, text.split()) if number)
            if found:
                return found
        return []


def installed_unit(root: Path, name: str) -> InstalledUnit | None:
    """A unit as it is installed below `root`; None where there is none of that name."""
    path = next((folder / name for folder in _FOLDERS if below(root, folder / name).is_file()), None)
    if path is None:
        return None
    drop_ins: Dict[str, Path] = {}
    for folder in reversed(_FOLDERS):  # a file of the same name in a folder named before hides the other
        there = folder / f"{name}.d"
        drop_ins.update({entry: there / entry for entry in names_in(below(root, there)) if entry.endswith(".conf")})
    files = [path, *(drop_ins[entry] for entry in sorted(drop_ins))]
    return InstalledUnit(root, name, tuple(pair for file in files for pair in _settings(text_of(below(root, file)))))


def _settings(text: str) -> Iterator[Tuple[str, str]]:
    for line in _lines(text.replace("\\\n", " ")):
        key, equals, value = line.partition("=")
        if equals:
            yield key.strip(), value.strip()


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.strip() and line.strip()[0] not in "#;[":
            yield line.strip()


def _words(line: str) -> List[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []
