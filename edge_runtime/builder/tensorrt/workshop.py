"""A folder for what a build makes before it is published, on the same disk as the plans."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from edge_runtime.errors import PlanError

_CHUNK_NBYTES = 1 << 20
_PREFIX = ".build-"


@dataclass(frozen=True)
class FileChunks:
    """A file's contents in chunks, read anew each time that they are iterated."""

    path: Path

    @property
    def nbytes(self) -> int:
        """The file's size."""
        return self.path.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from iter(lambda: file.read(_CHUNK_NBYTES), b"")


@contextlib.contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Turns a failure to write inside the block into ours.

    Raises:
        PlanError: the disk is full, say.
    """
    try:
        yield
    except OSError as error:
        raise PlanError(f"{what}: can't be written ({error.strerror or error}); nothing was published") from error


@contextlib.contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """A new folder in `root` for the length of the block; those that a killed build left are removed first.

    Raises:
        PlanError: it can't be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _locked(root):  # a folder is made and locked before anybody else looks at it
                for stray in root.glob(f"{_PREFIX}*"):
                    _remove_unlocked(stray)
                folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                stack.enter_context(_locked(folder))
        except OSError as error:
            raise PlanError(f"{root}: can't be written ({error.strerror}); nothing was built") from error
        yield folder.absolute()


@contextlib.contextmanager
def _locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _remove_unlocked(folder: Path) -> None:
    """Removes a folder that no process holds, in this container or another."""
    with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(folder, ignore_errors=True)
