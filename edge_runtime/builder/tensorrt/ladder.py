"""What a build may take of a board's memory, and how it tries again with less. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

MIB = 1 << 20

_RESERVE_SHARE = 0.1  # of the machine's memory, for what else runs on it
_LEAST_RESERVE = 256 * MIB
_LEAST_WORKSPACE = 16 * MIB
_LEAST_CEILING = 64 * MIB


@dataclass(frozen=True)
class Ceiling:
    """Bytes that a build may hold, and that must stay available on the machine; None: not known, so not watched."""

    held_nbytes: int | None
    available_nbytes: int | None


@dataclass(frozen=True)
class Rung:
    """One try: the workspace, and the optimisation level; None leaves TensorRT's default.

    `is_reduced`: it is less than was wanted.
    """

    workspace_nbytes: int | None
    optimization_level: int | None
    is_reduced: bool = False

    @property
    def text(self) -> str:
        """For a person."""
        nbytes = self.workspace_nbytes
        workspace = "the default workspace" if nbytes is None else f"a workspace of {nbytes // MIB} MiB"
        level = "" if self.optimization_level is None else f", optimisation level {self.optimization_level}"
        return f"{workspace}{level}"


def ceiling_of(total: int | None, available: int | None, limit: int | None) -> Ceiling:
    """What a build may hold: the `limit` that was set, else what is available less a reserve for everything else.

    All in bytes; None is not known, or not set.
    """
    reserve = max(_LEAST_RESERVE, int(_RESERVE_SHARE * (total or 0)))
    held = limit
    if held is None and available is not None:
        held = max(available - reserve, _LEAST_CEILING)
    return Ceiling(held, None if available is None else min(reserve, available) // 2)


def first_workspace(is_shared: bool, held_nbytes: int | None, wanted: int | None) -> int | None:
    """The workspace to begin with: what was asked for, else half of the ceiling where the GPU shares the memory."""
    if wanted is not None or not is_shared or held_nbytes is None:
        return wanted
    return max(held_nbytes // 2, _LEAST_WORKSPACE)


def rungs(first: Rung, held_nbytes: int | None) -> Iterator[Rung]:
    """The tries of a build, each with less: a quarter of the workspace before, and a lower level.

    Where the workspace had no limit, the second try's is a quarter of the ceiling.
    """
    yield first
    workspace, level = first.workspace_nbytes, first.optimization_level
    for lower in (2, 1, 0):
        before = held_nbytes if workspace is None else workspace
        if before is None or before // 4 < _LEAST_WORKSPACE:
            return
        workspace = before // 4
        level = lower if level is None else min(level, lower)
        yield Rung(workspace, level, is_reduced=True)
