"""Files that a power cut leaves whole or absent (fsync of the file, then of its folder), and folders for a while."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Iterable, Iterator, Union

from edge_runtime.errors import BackendError

Content = Union[bytes, Iterable[bytes]]  # of a file, all at once or in chunks


def write_synced(path: Path, content: Content, mode: int | None = None) -> None:
    """Writes a new file and waits until it is on the device; its name is durable after `sync_folder`.

    It has the `mode` from its first byte on, whatever the umask (None: what that leaves of 0666).
    """

    def created(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o666 if mode is None else mode)

    with open(path, "xb", opener=created) as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.writelines([content] if isinstance(content, bytes) else content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the device."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, each of whose names is on the device before this returns."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def obstacle(folder: Path) -> Path | None:
    """What keeps this user from making a folder, or from writing into it: it or one above it; None if nothing does."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return None if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK) else existing


def write_atomically(path: Path, data: Content, mode: int | None = None) -> None:
    """Replaces a file: after a crash at any moment it holds the old bytes or the new ones, never a mix."""
    temporary = path.with_name(f".{path.name[:48]}.{secrets.token_hex(4)}.tmp")  # the longest name has 255 bytes
    try:
        write_synced(temporary, data, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A folder for the length of the block, where the system keeps what is temporary.

    Raises:
        BackendError: there is no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=f"edge-runtime-{purpose}-")
    except OSError as error:
        raise BackendError(f"{purpose}: no temporary folder ({error}); set TMPDIR to another") from None
    with folder as name:
        yield Path(name)
