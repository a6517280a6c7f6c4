"""A folder for what a build makes before it is published, on the same disk as the plans."""

from __future__ import annotations

import contextlib
import os
import re
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
    try:
        root.mkdir(parents=True, exist_ok=True)
        for stray in root.glob(f"{_PREFIX}*"):
            match = re.match(rf"{re.escape(_PREFIX)}(\d+)-", stray.name)
            if match and not Path(f"/proc/{match.group(1)}").exists():
                shutil.rmtree(stray, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
    except OSError as error:
        raise PlanError(f"{root}: can't be written ({error.strerror}); nothing was built") from error
    try:
        yield folder.absolute()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
