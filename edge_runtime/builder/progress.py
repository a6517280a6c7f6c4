"""What a build says while it runs."""

from __future__ import annotations

import logging
from typing import List, Protocol

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Receives a build's stages; the command line shows them."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of `total` steps begins (None: unknown)."""

    def advance(self, steps: int = 1) -> None:
        """Steps of the stage under way are done."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


class RecordedProgress:
    """Progress that is passed on, and whose notes are kept for the manifest."""

    def __init__(self, progress: Progress) -> None:
        self.notes: List[str] = []
        self._progress = progress

    def stage(self, name: str, total: int | None = None) -> None:
        """Passes a stage on."""
        self._progress.stage(name, total)

    def advance(self, steps: int = 1) -> None:
        """Passes steps on."""
        self._progress.advance(steps)

    def note(self, text: str) -> None:
        """Passes a note on, and keeps it."""
        self.notes.append(text)
        self._progress.note(text)


class LoggedProgress:
    """Progress for callers that show none: notes go to the log."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Logs a stage."""
        logger.info("%s (%s steps)", name, total if total is not None else "unknown")

    def advance(self, steps: int = 1) -> None:
        """Steps aren't logged."""

    def note(self, text: str) -> None:
        """Logs a note."""
        logger.info("%s", text)
