"""The highest release of each model that was unpacked into a store, which only an operator goes below."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Dict, Sequence

from edge_runtime.errors import PlanError, PlanRollbackError
from edge_runtime.plan.contents import opened
from edge_runtime.plan.files import write_atomically
from edge_runtime.plan.names import MODEL_NAME
from edge_runtime.plan.pack import MAX_RELEASE
from edge_runtime.plan.strict_json import AmbiguousJsonError, object_from_json

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
            text = json.dumps(dict(sorted({**releases, model: release}.items())), indent=1)
            write_atomically(self._path, f"{text}\n".encode())

    def _read(self) -> Dict[str, int]:
        if not os.path.lexists(self._path):
            return {}
        try:
            with opened(self._path) as file:
                content = object_from_json(file.read())
        except (PlanError, AmbiguousJsonError) as error:
            raise self._broken(str(error)) from None
        for model, release in content.items():
            is_release = isinstance(release, int) and not isinstance(release, bool) and 1 <= release <= MAX_RELEASE
            if not MODEL_NAME.fullmatch(model) or not is_release:
                raise self._broken(f"{model[:128]!r}: {str(release)[:32]}: expected a model and a release")
        return content

    def _broken(self, problem: str) -> PlanRollbackError:
        return PlanRollbackError(
            f"{self._path}: which releases were unpacked before can't be read ({problem}); look at what changed it, "
            "then remove the file to begin anew with what is there"
        )
