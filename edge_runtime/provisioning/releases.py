"""The highest release of each model that was unpacked into a store, which only an operator goes below."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence

from edge_runtime.errors import PlanRollbackError
from edge_runtime.plan.version_file import read_versions, write_versions

_FILE = ".releases.json"


class Releases:
    """The file of a store's packs that remembers them; used while the packs are held against other writers."""

    def __init__(self, packs: Path) -> None:
        self._path = packs / _FILE

    def check(self, model: str, release: int, there: Sequence[int], allows_older: bool) -> None:
        """Lets a release pass that isn't below the highest one that was unpacked before, or is `there`.

        Raises:
            PlanRollbackError: it is, and that isn't allowed; or what was unpacked before can't be read.
        """
        highest = max([self._read().get(model, 0), *there])
        if release < highest and not allows_older:
            raise PlanRollbackError(
                f"model {model!r}: release {release} of its pack, expected {highest} or later, which was unpacked "
                f"before; to go back to it on purpose: edge-runtime unpack --allow-older"
            )

    def remember(self, model: str, release: int) -> None:
        """Says that a release is there.

        Raises:
            OSError: the file can't be written.
        """
        releases = self._read()
        if releases.get(model) != release:
            write_versions(self._path, {**releases, model: release})

    def _read(self) -> Dict[str, int]:
        return read_versions(self._path, "which releases were unpacked before")
