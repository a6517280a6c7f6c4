"""What an administrator may change while the server runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Protocol


class Repository(Protocol):
    """The models of a store, of which some are loaded."""

    async def load(self, name: str) -> None:
        """Loads a model, or loads it anew."""

    async def unload(self, name: str) -> None:
        """Unloads a model."""

    async def index(self, is_ready_only: bool) -> List[Dict[str, str]]:
        """The repository index, with what isn't loaded."""


class ServerLog(Protocol):
    """What the process logs."""

    def settings(self) -> Dict[str, Any]:
        """What holds now, by the names of the protocol's extension `logging`."""

    def let_pass(self, level: str) -> None:
        """Lets a level and what is graver pass, and nothing else."""

    def change(self, settings: Mapping[str, Any]) -> None:
        """Lets other settings hold, all or none; raises InvalidRequestError."""


@dataclass(frozen=True)
class Administration:
    """What may be changed: which models are loaded (None: that stays as it is), and what is logged (None: unknown).

    `is_open` says whether clients may load and unload, too.
    """

    repository: Repository | None = None
    log: ServerLog | None = None
    is_open: bool = True
