"""What an engine's process is asked for, and how both sides write it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict

from edge_runtime.engine.loading import EngineOptions
from edge_runtime.plan.manifest import manifest_from_text, manifest_text
from edge_runtime.plan.store import StoredPlan

_OPTIONS = tuple(field.name for field in fields(EngineOptions) if field.name != "allocate")


@dataclass(frozen=True)
class LoadRequest:
    """A stored plan to be loaded, and how; its manifest is the one that was read, whatever its file says by now."""

    plan: StoredPlan
    options: EngineOptions

    def text(self) -> bytes:
        """As the process reads it."""
        content = {
            "folder": str(self.plan.folder.absolute()),
            "manifest": manifest_text(self.plan.manifest),
            "manifest_sha256": self.plan.manifest_sha256,
            "options": {name: getattr(self.options, name) for name in _OPTIONS},
        }
        return json.dumps(content).encode()


def request_from_text(text: bytes, **options: Any) -> LoadRequest:
    """The request that `text` wrote, with further options of the process itself."""
    content: Dict[str, Any] = json.loads(text)
    folder = Path(content["folder"])
    given = {**content["options"], "plugins": tuple(content["options"]["plugins"]), **options}
    manifest = manifest_from_text(content["manifest"], str(folder / "manifest.json"))
    return LoadRequest(StoredPlan(folder, manifest, content["manifest_sha256"]), EngineOptions(**given))
