"""The lines of a log, whatever its file holds: a line is never longer in memory than a sample's can be."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO, Iterator

from edge_runtime.device.telemetry.tegrastats.line import LONGEST_LINE
from edge_runtime.errors import TelemetryError

STANDARD_INPUT = Path("-")
_LIMIT = 4 * LONGEST_LINE  # bytes; a character has at most four
_BOM = b"\xef\xbb\xbf"
_OTHER_FORMS = (
    (b"\x1f\x8b", "compressed with gzip", "zcat"),
    (b"\xfd7zXZ", "compressed with xz", "xzcat"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstdcat"),
    (b"BZh", "compressed with bzip2", "bzcat"),
    (b"\xff\xfe", "UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
)


def check_log(path: Path) -> None:
    """Refuses what can't be opened as a log, without reading it; `-` is standard input.

    Raises:
        TelemetryError: it isn't there, is a folder, or may not be read.
    """
    if path == STANDARD_INPUT:
        return
    with _named(path):
        if stat.S_ISDIR(path.stat().st_mode):
            raise TelemetryError(f"{path}: a folder; name the log in it")
        if not os.access(path, os.R_OK):
            raise TelemetryError(f"{path}: can't be read (Permission denied)")


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a log as they come, without their ends; one that is too long for a sample is empty.

    Raises:
        TelemetryError: it can't be read, or is compressed or of another encoding than UTF-8.
    """
    if path == STANDARD_INPUT:
        if sys.stdin is None:
            raise TelemetryError("standard input is closed; give a log's name, or send one to it")
        with _named(path):
            yield from lines_from_stream(sys.stdin.buffer, "standard input")
        return
    with _named(path), path.open("rb") as stream:
        yield from lines_from_stream(stream, str(path))


def lines_from_stream(stream: BinaryIO, name: str = "log") -> Iterator[str]:
    """`lines_of` an open file."""
    is_first = True
    while True:
        line = stream.readline(_LIMIT)
        if not line:
            return
        if is_first:
            check_form(line, name, "| edge-runtime telemetry parse -")
            line = without_mark(line)
            is_first = False
        is_whole = len(line) < _LIMIT or line.endswith(b"\n")
        if not is_whole and _skip_line(stream):
            line = b""
        yield line.rstrip(b"\r\n").decode("utf-8", "replace")


def without_mark(start: bytes) -> bytes:
    """The start of a text without the byte order mark that Windows puts before it."""
    return start[len(_BOM) :] if start.startswith(_BOM) else start


def _skip_line(stream: BinaryIO) -> bool:
    """Passes over the rest of a line; whether there was any."""
    rest = stream.readline(_LIMIT)
    is_some = bool(rest.strip(b"\r\n"))
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(_LIMIT)
    return is_some


def check_form(start: bytes, name: str, use: str) -> None:
    """Refuses what begins like a file that isn't plain UTF-8 text; `use` is what to do with the text of it.

    Raises:
        TelemetryError: it is compressed or of another encoding; the message has the command that makes it plain.
    """
    for magic, kind, tool in _OTHER_FORMS:
        if start.startswith(magic):
            raise TelemetryError(f"{name}: {kind}; give it as `{tool} {name} {use}`")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what the system says of a file into an error that names it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise TelemetryError(f"{path}: can't be read ({reason})") from error
