"""Writing files that a power cut leaves whole or absent (fsync of the file, then of its folder)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Iterable, Union

Content = Union[bytes, Iterable[bytes]]  # of a file, all at once or in chunks


def write_synced(path: Path, content: Content) -> None:
    """Writes a new file and waits until it is on the device; its name is durable after `sync_folder`."""
    with path.open("xb") as file:
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


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file: after a crash at any moment it holds the old bytes or the new ones, never a mix."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write_synced(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
