"""The GPU's device nodes, and whether this process may use them."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import AbstractSet, Callable, Dict, Iterator, List

from edge_runtime.device.files import names_in, text_of, whole_number

_PATTERNS = ("nvidia*", "nvhost-*", "nvmap", "nvsciipc", "host1x-fence")
# Without these no CUDA program starts; others are for debuggers, cameras, video and displays.
_NEEDED = (
    "nvidia[0-9]*",
    "nvidiactl",
    "nvidia-uvm",
    "nvmap",
    "nvhost-ctrl",
    "nvhost-ctrl-gpu",
    "nvhost-as-gpu",
    "nvhost-gpu",
    "nvhost-tsg-gpu",
    "nvgpu/*/as",
    "nvgpu/*/channel",
    "nvgpu/*/ctrl",
    "nvgpu/*/tsg",
)
_GROUP_MAY_USE = stat.S_IRGRP | stat.S_IWGRP
_GROUP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class DeviceNode:
    """A device node: its path below /dev, its group by name (its number where it has none), and who may use it."""

    name: str
    group: str
    gid: int
    is_open_to_group: bool
    can_use: bool

    @property
    def is_needed(self) -> bool:
        """Whether CUDA doesn't start without it."""
        return any(fnmatchcase(self.name, pattern) for pattern in _NEEDED)

    @property
    def is_for_rendering(self) -> bool:
        """Whether it is a render node, which graphics and some libraries of a Jetson open."""
        return self.name.startswith("dri/")


@dataclass(frozen=True)
class Permissions:
    """The GPU's device nodes, and the groups that this process is in by number."""

    nodes: List[DeviceNode]
    own_gids: AbstractSet[int]

    @property
    def closed(self) -> List[DeviceNode]:
        """Nodes that CUDA needs and this process can't read and write."""
        return [node for node in self.nodes if node.is_needed and not node.can_use]

    @property
    def closed_for_rendering(self) -> List[DeviceNode]:
        """Render nodes that this process can't read and write."""
        return [node for node in self.nodes if node.is_for_rendering and not node.can_use]

    @property
    def missing_groups(self) -> List[str]:
        """Groups that would open the closed nodes and the closed render nodes, sorted; root's is never one."""
        wanted = [*self.closed, *self.closed_for_rendering]
        return sorted({n.group for n in wanted if n.is_open_to_group and n.gid and n.gid not in self.own_gids})


def read_permissions(
    root: Path = Path("/"),
    can_use: Callable[[Path], bool] | None = None,
    own_gids: AbstractSet[int] | None = None,
) -> Permissions:
    """The GPU's device nodes in /dev below `root`; by default as this process may use them."""
    groups = _group_names(text_of(root / "etc/group"))
    usable = can_use or _can_read_and_write
    nodes = []
    for name in _node_names(root / "dev"):
        path = root / "dev" / name
        try:
            status = path.stat()
        except OSError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            group = groups.get(status.st_gid, str(status.st_gid))
            is_open = status.st_mode & _GROUP_MAY_USE == _GROUP_MAY_USE
            nodes.append(DeviceNode(name, group, status.st_gid, is_open, usable(path)))
    return Permissions(nodes, own_gids if own_gids is not None else {os.getegid(), *os.getgroups()})


def _node_names(dev: Path) -> Iterator[str]:
    for name in names_in(dev):
        if any(fnmatchcase(name, pattern) for pattern in _PATTERNS):
            yield name
    for name in names_in(dev / "dri"):
        if fnmatchcase(name, "renderD*"):
            yield f"dri/{name}"
    for gpu in names_in(dev / "nvgpu"):
        for name in names_in(dev / "nvgpu" / gpu):
            yield f"nvgpu/{gpu}/{name}"


def _group_names(text: str) -> Dict[int, str]:
    names: Dict[int, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        number = whole_number(fields[2]) if len(fields) >= 3 else None
        if number is not None and _GROUP_NAME.fullmatch(fields[0]):
            names.setdefault(number, fields[0])
    return names


def _can_read_and_write(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)
