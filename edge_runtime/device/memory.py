"""Memory of the machine, and how much of it this process may still take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Tuple

from edge_runtime.device.files import text_of, whole_number

_DEEPEST = 32
_UNLIMITED = 1 << 60


class _Names(NamedTuple):
    """The files of a control group, by version."""

    limit: str
    used: str
    reclaimable: str


_V2 = _Names("memory.max", "memory.current", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclass(frozen=True)
class Memory:
    """Bytes; None is unknown. `nvmap_used_nbytes` is what the GPU of a Jetson holds of the same memory.

    The limit is the tightest of this process's control groups, None without one; `cgroup_available_nbytes` is what
    is left under it.
    """

    total_nbytes: int | None
    memory_available_nbytes: int | None
    swap_total_nbytes: int | None
    swap_free_nbytes: int | None
    nvmap_used_nbytes: int | None
    cgroup_limit_nbytes: int | None
    cgroup_available_nbytes: int | None

    @property
    def available_nbytes(self) -> int | None:
        """What this process may still take: the smaller of the machine's and its control group's."""
        known = [n for n in (self.memory_available_nbytes, self.cgroup_available_nbytes) if n is not None]
        return min(known) if known else None


def read_memory(root: Path = Path("/")) -> Memory:
    """Memory now, from /proc and /sys below `root`."""
    fields = _meminfo(text_of(root / "proc/meminfo"))
    limit, available = _cgroup(root)
    return Memory(
        total_nbytes=fields.get("MemTotal"),
        memory_available_nbytes=fields.get("MemAvailable"),
        swap_total_nbytes=fields.get("SwapTotal"),
        swap_free_nbytes=fields.get("SwapFree"),
        nvmap_used_nbytes=fields.get("NvMapMemUsed"),
        cgroup_limit_nbytes=limit,
        cgroup_available_nbytes=available,
    )


def available_nbytes(root: Path = Path("/")) -> int | None:
    """What this process may still take; None is unknown."""
    return read_memory(root).available_nbytes


def _meminfo(text: str) -> Dict[str, int]:
    fields: Dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = whole_number(value[: -len("kB")]) if value.endswith(" kB") else None
        if number is not None:
            fields.setdefault(name, number * 1024)
    return fields


def _cgroup(root: Path) -> Tuple[int | None, int | None]:
    limits = []
    available = []
    for folder, names in _groups(root):
        limit = whole_number(text_of(folder / names.limit))
        if limit is None or limit >= _UNLIMITED:
            continue
        used = whole_number(text_of(folder / names.used)) or 0
        unneeded = _reclaimable(text_of(folder / "memory.stat"), names.reclaimable)
        limits.append(limit)
        available.append(max(0, limit - max(0, used - unneeded)))
    return min(limits, default=None), min(available, default=None)


def _groups(root: Path) -> Iterator[Tuple[Path, _Names]]:
    """Every control group that this process is in, from its own to the root; each may have a limit."""
    mounted = root / "sys/fs/cgroup"
    for line in text_of(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number, controllers) == ("0", ""):
            base, names = mounted, _V2
        elif "memory" in controllers.split(","):
            base, names = mounted / "memory", _V1
        else:
            continue
        parts = [part for part in path.split("/")[: _DEEPEST + 1] if part not in ("", ".", "..")]
        for length in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:length]), names


def _reclaimable(statistics: str, name: str) -> int:
    for line in statistics.splitlines():
        field, _, value = line.partition(" ")
        if field == name:
            return whole_number(value) or 0
    return 0
