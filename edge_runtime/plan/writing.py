"""One writer of a model's folder at a time, and how versions leave it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Iterator, List, Sequence

from edge_runtime.errors import PlanError
from edge_runtime.plan.files import make_folder, sync_folder

STAGE = ".stage-"
_TRASH = ".trash-"
_STRAYS = (f"{STAGE}*", f"{_TRASH}*", ".*.tmp")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds a model's folder against other writers, and clears what a killed one left.

    Raises:
        PlanError: the folder can't be made or opened.
    """
    try:
        make_folder(folder)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PlanError(f"{folder}: can't be written ({error.strerror}); nothing was published") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for stray in [stray for pattern in _STRAYS for stray in folder.glob(pattern)]:
            if stray.is_dir() and not stray.is_symlink():
                shutil.rmtree(stray, ignore_errors=True)
            else:
                stray.unlink()
        yield
    finally:
        os.close(handle)


def superseded(versions: Sequence[int], served: int, keep: int) -> List[int]:
    """The versions that may go: those below the served one but for the `keep` newest of them.

    A version above the served one is there since somebody went back; it stays until a newer one is served.
    """
    older = sorted((version for version in versions if version < served), reverse=True)
    return sorted(older[keep:])


def remove_versions(folder: Path, versions: Sequence[int]) -> None:
    """Removes versions of a model, each of which is there whole until it isn't there at all; call it while `writing`.

    A reader that had opened a version's manifest finds its files missing, which is an error that it knows.

    Raises:
        PlanError: one can't be removed.
    """
    trash = []
    try:
        for version in versions:
            name = folder / f"{_TRASH}{version}-{secrets.token_hex(4)}"
            (folder / str(version)).rename(name)
            trash.append(name)
        if trash:
            sync_folder(folder)  # a version must not come back with half of its files
    except OSError as error:
        raise PlanError(
            f"{folder}: versions can't be removed ({error.strerror}); what is served isn't touched"
        ) from error
    for name in trash:
        shutil.rmtree(name, ignore_errors=True)  # what is left is cleared by the next writer
