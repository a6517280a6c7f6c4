"""A number of each model, in a file whose every doubt refuses: one that resets itself would hold nobody back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Dict, Mapping

from edge_runtime.errors import PlanError, PlanRollbackError
from edge_runtime.plan.contents import opened
from edge_runtime.plan.files import write_atomically
from edge_runtime.plan.names import MODEL_NAME
from edge_runtime.plan.strict_json import AmbiguousJsonError, object_from_json

_SCHEMA = 1


def read_versions(path: Path, what: str) -> Dict[str, int]:
    """The number of each model; none where there is no file. `what` says what they are.

    Raises:
        PlanRollbackError: the file is there, and can't be read.
    """
    if not os.path.lexists(path):
        return {}
    try:
        with opened(path) as file:
            content = object_from_json(file.read())
    except (PlanError, AmbiguousJsonError) as error:
        raise _broken(path, what, str(error)) from None
    versions = content.get("versions")
    if content.get("schema") != _SCHEMA or set(content) != {"schema", "versions"} or not isinstance(versions, dict):
        raise _broken(path, what, "expected schema 1 and versions")
    for model, version in versions.items():
        is_version = isinstance(version, int) and not isinstance(version, bool) and version > 0
        if not MODEL_NAME.fullmatch(model) or not is_version:
            raise _broken(path, what, f"{model[:128]!r}: {str(version)[:32]}: expected a model and a version")
    return versions


def write_versions(path: Path, versions: Mapping[str, int]) -> None:
    """Replaces the file.

    Raises:
        OSError: it can't be written.
    """
    content = {"schema": _SCHEMA, "versions": dict(sorted(versions.items()))}
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _broken(path: Path, what: str, problem: str) -> PlanRollbackError:
    return PlanRollbackError(
        f"{path}: {what} can't be read ({problem}); look at what changed it, "
        "then remove the file to begin anew with what is there now"
    )
