"""What a builder of all plans writes: new versions, old ones that go, and its progress."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Dict, Iterator, Tuple

from edge_runtime.device.process import own_process
from edge_runtime.errors import PlanError
from edge_runtime.plan.progress import PROGRESS, RUNNING, BuildProgress, ModelProgress, read_progress, write_progress
from edge_runtime.plan.store import PlanStore
from operations.writers import Check, Writer, check_published, publish

_MODEL = "m"
_KEEP = 2
_MOST = _KEEP + 2  # one more may be there between publishing and removing


def prune(folder: Path) -> Iterator[int]:
    """New versions of one model, of which only three stay."""
    store = PlanStore(folder / "engines")
    for version in publish(folder):
        removed = store.prune(_MODEL, _KEEP)
        assert not set(removed) & set(store.versions(_MODEL))
        yield version


def check_pruned(folder: Path, claimed: int) -> str:
    """What is there is whole, no older than what was claimed and no more than is kept; the next run clears the rest."""
    problem = check_published(folder, claimed)
    store = PlanStore(folder / "engines")
    versions = store.versions(_MODEL)
    if problem or not claimed:
        return problem
    if len(versions) > _MOST:
        return f"{len(versions)} versions are there, expected {_MOST} at most: {versions}"
    next(prune(folder))
    left = [path.name for path in (folder / "engines" / _MODEL).iterdir() if path.name.startswith((".trash", ".stage"))]
    return f"the next run left {left}" if left else check_published(folder, claimed + 1)


def progress(folder: Path) -> Iterator[int]:
    """How far a build is, written again and again."""
    for number in itertools.count(1):
        model = ModelProgress(_MODEL, RUNNING, "calibrating", number, None)
        try:
            write_progress(folder, BuildProgress(own_process(), (model,)))
        except OSError as error:
            raise PlanError(f"{folder}: progress can't be written ({error.strerror})") from error
        yield number


def check_progress(folder: Path, claimed: int) -> str:
    """The file is absent or whole, and not older than what was claimed."""
    found = read_progress(folder)
    if found is None:
        is_torn = (folder / PROGRESS).exists()
        return "the file is torn" if is_torn else f"{claimed} was claimed, nothing is there" if claimed else ""
    done = found.models[0].done
    return "" if done >= claimed else f"step {done} is there, {claimed} was said to be"


KINDS: Dict[str, Tuple[Writer, Check]] = {
    "prune": (prune, check_pruned),
    "progress": (progress, check_progress),
}
