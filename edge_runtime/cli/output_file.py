"""The file that a flag names for a result, checked before there is a result to lose."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from edge_runtime.errors import DataError, UsageError
from edge_runtime.plan.files import write_atomically


def check_output_file(path: Path, flag: str) -> None:
    """Refuses what no result can be written to, and what it must not replace: only a regular file is replaced.

    Raises:
        UsageError: the name isn't one of a file, new or regular, in a folder that is there and can be written.
    """
    problem = _problem(path)
    if problem:
        raise UsageError(f"{flag} {str(path)[:128]}: {problem}; give another name")


def write_output_file(path: Path, data: bytes, flag: str) -> None:
    """Writes a result whole or not at all.

    Raises:
        DataError: it can't be written.
    """
    try:
        write_atomically(path.absolute(), data)
    except OSError as error:
        raise DataError(f"{flag} {path}: can't be written ({error.strerror}); give another name") from error


def _problem(path: Path) -> str:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except OSError as error:
        return f"can't be used ({error.strerror})"
    except ValueError as error:
        return f"can't be used ({error})"
    if mode is not None and not stat.S_ISREG(mode):
        return "isn't a regular file"
    folder = path.parent
    if not folder.is_dir():
        return f"{folder} isn't a folder that exists"
    try:
        with tempfile.TemporaryFile(dir=folder):  # what access(2) says doesn't hold for root, nor for /proc
            return ""
    except OSError as error:
        return f"{folder} can't be written ({error.strerror})"
