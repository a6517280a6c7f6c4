"""Small files of a board, read so that nothing in them can fail or hold up the reader."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import List

_CHUNK = 1 << 20
_DIGITS = re.compile(r"[0-9]{1,20}")


def bytes_of(path: Path, limit: int = _CHUNK) -> bytes:
    """The first `limit` bytes of a plain file; b"" for anything that can't be read or isn't one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return b""
    try:
        return _read(descriptor, limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def text_of(path: Path, limit: int = _CHUNK) -> str:
    """`bytes_of` as text; what isn't UTF-8 becomes the replacement character."""
    return bytes_of(path, limit).decode(errors="replace")


def names_in(folder: Path) -> List[str]:
    """Sorted names of what is in a folder; none where it can't be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (OSError, ValueError):
        return []


def whole_number(text: str) -> int | None:
    """The number that the text is, without sign; None if it is anything else."""
    word = text.strip()
    return int(word) if _DIGITS.fullmatch(word) else None


def printable(text: str) -> str:
    """The text on one line: NUL, line ends and control characters become blanks."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def _read(descriptor: int, limit: int) -> bytes:
    parts = []
    left = limit
    while left > 0:
        part = os.read(descriptor, min(left, _CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
