"""Lines for systemd's journal, which reads how grave each is from its begin."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Mapping, TextIO


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream goes to the journal: systemd names the one that it has connected to it."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor, or a closed one
        status = os.fstat(stream.fileno())
        return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False


def with_priority(text: str, level: int) -> str:
    """Lines as the journal wants them: `<3>` before an error, as syslog counts."""
    mark = f"<{_priority(level)}>"
    return "\n".join(f"{mark}{line}" for line in text.split("\n"))


def _priority(level: int) -> int:
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7


class JournalLines(logging.Formatter):
    """The lines of another formatter, each with its priority, those of tracebacks too."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """The lines."""
        return with_priority(self._lines.format(record), record.levelno)
