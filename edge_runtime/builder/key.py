"""The build key: equal keys mean that building again would make the same plan."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Mapping

from edge_runtime import __version__
from edge_runtime.builder.backend import Backend
from edge_runtime.builder.recipe import RecipeTables


def build_key(tables: RecipeTables, digests: Mapping[str, Any], backend: Backend, machine: Any) -> str:
    """SHA-256 over what decides a plan: recipe, `digests`, backend, machine and this program's version.

    `digests` are those of the model, the data, the metric's module, imported tables and plugin libraries. Where files
    lie doesn't count, nor does whether a failed plan would be published, how much memory the build may hold, or how the
    model is served.
    """
    settings = tables.model_dump(by_alias=True)
    settings["model"] = {"max_batch": tables.model.max_batch}
    if tables.model.split:  # a plan that isn't split keeps the key that it had before there were any
        settings["model"]["split"] = tables.model.split
    for section in ("calibration", "held_out"):
        for key in ("data", "arguments", "data_version"):
            settings[section].pop(key)
    for key in ("table", "tables"):
        settings["calibration"].pop(key)
    settings["gate"].pop("publish_failed")
    settings.pop("serving")
    for key in ("plugins", "memory_limit_mib"):
        settings["backend"].pop(key)
    return digest_of(
        {
            "edge_runtime": __version__,
            "recipe": settings,
            "digests": digests,
            "backend": [backend.name, backend.version, backend.device],
            "machine": machine,
        }
    )


def digest_of(content: Any) -> str:
    """SHA-256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
