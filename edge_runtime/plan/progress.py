"""How far a build of a store's plans is: one small file in the store, which its builder writes and anybody reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Tuple

from edge_runtime.device.files import bytes_of
from edge_runtime.device.process import ProcessIdentity, is_alive
from edge_runtime.plan.files import write_atomically

PROGRESS = ".progress.json"
RUNNING, DONE, FAILED = "running", "done", "failed"
STATES = (RUNNING, DONE, FAILED)

_SCHEMA = 1
_MODE = 0o644  # the server is another user


@dataclass(frozen=True)
class ModelProgress:
    """What a builder does about a model: a stage with `done` of `total` steps (None: unknown), or how it ended."""

    model: str
    state: str
    stage: str = ""
    done: int = 0
    total: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class BuildProgress:
    """What a builder has done about each model of its run, and which process that is."""

    writer: ProcessIdentity
    models: Tuple[ModelProgress, ...]

    def of(self, model: str) -> ModelProgress | None:
        """What it says of one model."""
        return next((each for each in self.models if each.model == model), None)


def write_progress(root: Path, progress: BuildProgress) -> None:
    """Replaces the file of a store: a reader finds the old text or the new one.

    Raises:
        OSError: it can't be written.
    """
    content = {
        "schema": _SCHEMA,
        "writer": asdict(progress.writer),
        "models": [asdict(each) for each in progress.models],
    }
    write_atomically(root / PROGRESS, (json.dumps(content) + "\n").encode(), _MODE)


def read_progress(root: Path) -> BuildProgress | None:
    """What the file of a store says; None where there is none, or it isn't one."""
    try:
        content = json.loads(bytes_of(root / PROGRESS))
        if content["schema"] != _SCHEMA:
            return None
        models = tuple(ModelProgress(**each) for each in content["models"])
        progress = BuildProgress(ProcessIdentity(**content["writer"]), models)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return progress if _is_sound(progress) else None


def _is_sound(progress: BuildProgress) -> bool:
    writer = progress.writer
    return (
        _are((writer.pid, writer.start_ticks or 0), int)
        and writer.pid > 0
        and _are((writer.boot_id, writer.pid_namespace), str)
        and all(_are((each.done, each.total or 0), int) for each in progress.models)
        and all(_are((each.model, each.state, each.stage, each.reason), str) for each in progress.models)
        and all(each.state in STATES for each in progress.models)
    )


def _are(values: Tuple[Any, ...], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def progress_text(root: Path, model: str, machine: Path = Path("/")) -> str:
    """What a builder does about a model, in words; "" where nothing is known."""
    progress = read_progress(root)
    found = progress.of(model) if progress is not None else None
    if progress is None or found is None:
        return ""
    if found.state == FAILED:
        return f"building it failed: {found.reason}"
    if found.state == DONE:
        return "a new version was built"
    if is_alive(progress.writer, machine) is False:
        return f"its build was cut short ({found.stage or 'at the start'}); it goes on when the build is started again"
    steps = f", {found.done} of {found.total}" if found.total else ""
    return f"being built: {found.stage}{steps}" if found.stage else "waits for its turn to be built"
