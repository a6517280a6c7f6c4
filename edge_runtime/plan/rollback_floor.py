"""The lowest version of each model that may be loaded: a plan that was replaced for a fault can't be put back unseen.

One JSON file, replaced atomically and held by a lock on its folder while it changes. It only ever rises, but for an
operator's word. What can't be read refuses: a floor that resets itself would be none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Dict, Iterator

from edge_runtime.errors import ConfigError, PlanRollbackError
from edge_runtime.plan.files import make_folder
from edge_runtime.plan.version_file import read_versions, write_versions


class RollbackFloor:
    """The floor in one file; a model that it doesn't name, and a file that isn't there yet, allow every version."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lowest(self, model: str) -> int:
        """The lowest version that may be loaded.

        Raises:
            PlanRollbackError: the file is there, and can't be read.
        """
        return self._read().get(model, 0)

    def check(self, model: str, version: int) -> None:
        """Lets a version at or above the floor pass.

        Raises:
            PlanRollbackError: it is below, or the floor can't be read.
        """
        lowest = self.lowest(model)
        if version < lowest:
            raise PlanRollbackError(
                f"model {model!r} version {version}: expected version {lowest} or later, which was found good before "
                f"({self._path}); to go back to it on purpose: edge-runtime rollback {model}"
            )

    def raise_floor(self, model: str, version: int) -> None:
        """Says that a version was loaded and found good: no older one may be loaded from now on.

        Raises:
            PlanRollbackError: the floor can't be read.
            ConfigError: it can't be written.
        """
        if self.lowest(model) < version:
            self._change(model, version, only_up=True)

    def allow(self, model: str, version: int) -> None:
        """Sets the floor to a version on an operator's word, be it lower than it was.

        Raises:
            PlanRollbackError: the floor can't be read.
            ConfigError: it can't be written.
        """
        self._change(model, version, only_up=False)

    def _change(self, model: str, version: int, only_up: bool) -> None:
        with self._locked():
            versions = self._read()
            if only_up and versions.get(model, 0) >= version:
                return
            try:
                write_versions(self._path, {**versions, model: version})
            except OSError as error:
                raise ConfigError(f"{self._path}: can't be written ({error.strerror})") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        folder = self._path.absolute().parent
        try:
            make_folder(folder)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{self._path}: can't be written ({error.strerror})") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _read(self) -> Dict[str, int]:
        return read_versions(self._path, "the lowest versions that may be loaded")
