"""What a build says while it runs."""

from __future__ import annotations

import logging
from typing import Protocol

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Receives a build's stages; the command line shows them."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of `total` steps begins (None: unknown)."""

    def advance(self, steps: int = 1) -> None:
        """Steps of the stage under way are done."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


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
