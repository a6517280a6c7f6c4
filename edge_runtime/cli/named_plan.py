"""A plan as a verb's argument names it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.plan.store import StoredPlan


def plan_argument() -> Any:
    """`MODEL[@VERSION]`, or a folder."""
    return typer.Argument(
        ...,
        metavar="MODEL[@VERSION]|FOLDER",
        help="A model's name, of the served version or of one; or a plan's folder.",
    )


def named_plan(target: str, engines: Path) -> StoredPlan:
    """The plan that `MODEL`, `MODEL@VERSION` or a folder (with a `/`) means.

    Raises:
        UsageError: the version isn't a number.
        PlanError: there is none, or its manifest is broken.
    """
    from edge_runtime.plan.store import PlanStore, open_plan

    if os.sep in target or target in (".", ".."):
        return open_plan(Path(target))
    name, at, version = target.partition("@")
    if at and not (version.isascii() and version.isdigit() and 0 < len(version) < 10):
        raise UsageError(f"{target[:128]!r}: expected MODEL@VERSION with a number, or a folder with a {os.sep}")
    return PlanStore(engines).open(name, int(version) if at else None)
