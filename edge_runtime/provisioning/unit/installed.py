"""The service as it is installed on a machine: its two units, their users, and what the server is told."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import FrozenSet, Iterator, List, Tuple

from edge_runtime.config import Layer
from edge_runtime.device.files import text_of, whole_number
from edge_runtime.device.permissions import Permissions, read_permissions
from edge_runtime.plan.trust import SECTION, TrustPolicy, trust_policy
from edge_runtime.provisioning.unit.places import Places, below
from edge_runtime.provisioning.unit.texts import BUILDER, SERVER
from edge_runtime.provisioning.unit.unit_files import InstalledUnit, installed_unit
from edge_runtime.server.config_file import config_tables

INSTALL = "sudo edge-runtime install-unit --now"
"""What mends most."""

_PREFIXES = "@-:+!"


@dataclass(frozen=True)
class Account:
    """A user, with all groups that the processes of its service are in, by number."""

    name: str
    uid: int
    gids: FrozenSet[int]

    def can_use(self, path: Path) -> bool:
        """Whether it may read and write a file by the file's mode; root may anyway."""
        try:
            status = path.stat()
        except OSError:
            return False
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.gids else 0
        wanted = (stat.S_IROTH | stat.S_IWOTH) << shift
        return self.uid == 0 or status.st_mode & wanted == wanted


@dataclass(frozen=True)
class InstalledService:
    """The units below `root`; `builder` is None where plans are built by hand."""

    root: Path
    server: InstalledUnit
    builder: InstalledUnit | None

    @property
    def units(self) -> Tuple[InstalledUnit, ...]:
        """The server's, and the builder's where there is one."""
        return (self.server, self.builder) if self.builder is not None else (self.server,)

    @property
    def config(self) -> Path | None:
        """The server's file of settings, as its command line names it."""
        words = command_of(self.server)
        named = [after for word, after in zip(words, words[1:]) if word == "--config"]
        return Path(named[-1]) if named else None

    @property
    def engines(self) -> Path:
        """The store that it serves, by its path on the machine."""
        return Path(self.server.environ.get("EDGE_RUNTIME_ENGINES", str(Places().engines)))

    @cached_property
    def policy(self) -> TrustPolicy:
        """What it asks of a plan, with paths as they are reached from here.

        Raises:
            ConfigError: a setting is wrong, or the file of settings can't be read.
        """
        config = self.config
        tables = config_tables(below(self.root, config)) if config is not None else {}
        table: Layer = tables.get(SECTION, {})
        policy = trust_policy(self.server.environ, table)
        floor = below(self.root, policy.floor) if policy.floor is not None else None
        return replace(policy, folder=below(self.root, policy.folder), floor=floor)

    def account(self, unit: InstalledUnit) -> Account | None:
        """The user that a unit names; None where the machine has no such user."""
        name = unit.value("User") or "root"
        fields = next((line for line in _entries(self.root, "passwd") if line[0] == name), None)
        uid, gid = (whole_number(field) for field in fields[2:4]) if fields is not None else (None, None)
        if uid is None or gid is None:
            return None
        extra = {word for line in unit.values("SupplementaryGroups") for word in line.split()} | {unit.value("Group")}
        groups = [(line[0], whole_number(line[2]), line[3].split(",")) for line in _entries(self.root, "group")]
        gids = {
            number for group, number, members in groups if number is not None and (name in members or group in extra)
        }
        return Account(name, uid, frozenset({gid, *gids}))

    def permissions(self, account: Account) -> Permissions:
        """The GPU's device nodes as the unit's processes may use them by their modes."""
        return read_permissions(self.root, account.can_use, account.gids)


def installed_service(root: Path) -> InstalledService | None:
    """What is installed below `root`; None where there is no unit of the server."""
    server = installed_unit(root, f"{SERVER}.service")
    return InstalledService(root, server, installed_unit(root, f"{BUILDER}.service")) if server is not None else None


def command_of(unit: InstalledUnit) -> List[str]:
    """The words of the command that a unit runs last, its program first."""
    try:
        words = shlex.split(unit.value("ExecStart").lstrip(_PREFIXES))
    except ValueError:
        return []
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def is_there(path: Path) -> bool:
    """Whether there is something of that name, be it a link to nothing."""
    return os.path.lexists(path)


def _entries(root: Path, name: str) -> Iterator[List[str]]:
    for line in text_of(root / "etc" / name).splitlines():
        fields = line.split(":")
        if len(fields) >= 4:
            yield fields
