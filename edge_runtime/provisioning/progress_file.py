"""A builder's progress, kept in the file of its store for a server to read, and passed on."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Callable, Dict, Sequence

from edge_runtime.builder.progress import Progress
from edge_runtime.device.process import own_process
from edge_runtime.plan.progress import (
    DONE,
    FAILED,
    RUNNING,
    BuildProgress,
    ModelProgress,
    read_progress,
    write_progress,
)

logger = logging.getLogger(__name__)

_EVERY_S = 1.0

Announce = Callable[[str], None]


class ProgressFile:
    """What is done about each of some models.

    Args:
        root: the store.
        models: what is to be built, in this order.
        progress: hears stages and notes too.
        announce: hears of each stage in one line, as a service manager shows it.
        clock: monotonic seconds; steps are written once a second, for storage wears.
    """

    def __init__(
        self,
        root: Path,
        models: Sequence[str],
        progress: Progress,
        announce: Announce = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._models = {**_failures(root), **{model: ModelProgress(model, RUNNING) for model in models}}
        self._progress = progress
        self._announce = announce
        self._clock = clock
        self._writer = own_process()
        self._written_s: float | None = None
        self._now = ModelProgress("", RUNNING)
        self._write()

    def begin(self, model: str) -> None:
        """The stages that follow are of this model."""
        self._now = ModelProgress(model, RUNNING)
        self.stage("reading the recipe")

    def end(self, reason: str = "") -> None:
        """The model is built, or isn't, for a reason."""
        self._now = ModelProgress(self._now.model, FAILED if reason else DONE, reason=reason)
        self._write()

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of `total` steps begins (None: unknown)."""
        self._now = ModelProgress(self._now.model, RUNNING, name, 0, total)
        self._announce(f"building {self._now.model}: {name}")
        self._progress.stage(f"{self._now.model}: {name}", total)
        self._write()

    def advance(self, steps: int = 1) -> None:
        """Steps of the stage under way are done."""
        now = self._now
        self._now = ModelProgress(now.model, RUNNING, now.stage, now.done + steps, now.total)
        self._progress.advance(steps)
        if self._written_s is None or self._clock() - self._written_s >= _EVERY_S:
            self._write()

    def note(self, text: str) -> None:
        """Passes a note on."""
        self._progress.note(f"{self._now.model}: {text}")

    def _write(self) -> None:
        """A disk that is full keeps nobody from building."""
        if self._now.model:
            self._models[self._now.model] = self._now
        try:
            write_progress(self._root, BuildProgress(self._writer, tuple(self._models.values())))
        except OSError as error:
            logger.warning("%s: progress can't be written there (%s)", self._root, error.strerror)
        self._written_s = self._clock()


def _failures(root: Path) -> Dict[str, ModelProgress]:
    """What failed in runs before and isn't tried in this one: its reader still wants to know why."""
    before = read_progress(root)
    return {} if before is None else {each.model: each for each in before.models if each.state == FAILED}
