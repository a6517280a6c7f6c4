"""Libraries of plugins that a plan needs: which they were, and whether these may be loaded."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Sequence, Tuple

from edge_runtime.errors import PlanCorruptError, PlanTargetError
from edge_runtime.plan.contents import opened
from edge_runtime.plan.manifest import PluginRecord

_CHUNK_NBYTES = 1 << 20


def plugin_record(path: Path) -> PluginRecord:
    """A library of plugins as the manifest names it.

    Raises:
        PlanCorruptError: it isn't a regular file that can be read.
    """
    digest = hashlib.sha256()
    with opened(path.resolve()) as file:
        for chunk in iter(lambda: file.read(_CHUNK_NBYTES), b""):
            digest.update(chunk)
    return PluginRecord(path=str(path.resolve()), sha256=digest.hexdigest())


def plugin_libraries(name: str, needed: Sequence[PluginRecord], elsewhere: Sequence[str] = ()) -> Tuple[str, ...]:
    """The paths of the plugin libraries that a plan needs: where they were, or of the same file name in `elsewhere`.

    A library that only the manifest names must belong to root or to this user, nobody else may write it or its folder,
    and it can't have come with a plan: who can change a plan can't have any library loaded.

    Raises:
        PlanTargetError: one isn't there, isn't the one that the plan was built with, or may be anybody's.
    """
    moved = {Path(path).name: path for path in elsewhere}
    found = []
    for record in needed:
        path = Path(moved.get(Path(record.path).name, record.path))
        what = f"plan {name!r}: its plugin library {path}"
        try:
            here = plugin_record(path)
            if Path(record.path).name not in moved:
                _check_private(path, what)
        except (PlanCorruptError, OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise PlanTargetError(f"{what} can't be used ({error}); put it back, or build again") from None
        if here.sha256 != record.sha256:
            raise PlanTargetError(
                f"{what}: expected sha256 {record.sha256[:12]}…, with which it was built, got {here.sha256[:12]}…; "
                "put that one back, or build again"
            )
        found.append(str(path))
    return tuple(found)


def _check_private(path: Path, what: str) -> None:
    if not path.is_absolute() or any(map(_is_of_plans, path.resolve().parents)):
        raise PlanTargetError(
            f"{what}: expected an absolute path outside the folders of plans, for a plan brings no code of its own; "
            "name the library as a plugin"
        )
    for one in (path, path.parent):
        status = one.stat()
        is_sticky = bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid not in (0, os.geteuid()) or (status.st_mode & stat.S_IWOTH and not is_sticky):
            raise PlanTargetError(
                f"{what}: expected {one} to belong to root or to this user, and nobody else to write it, "
                f"got owner {status.st_uid} and mode {stat.S_IMODE(status.st_mode):o}; name the library as a plugin"
            )


def _is_of_plans(folder: Path) -> bool:
    """Whether it is the folder of a version, or has one in it."""
    is_version = bool(re.fullmatch("[1-9][0-9]*", folder.name)) and (folder / "manifest.json").exists()
    return is_version or any(folder.glob("[1-9]*/manifest.json"))
