"""Recorded tegrastats lines with what each tells: those of this repository, and the larger set where it is there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

OWN = Path(__file__).resolve().parents[1] / "data/tegrastats"
_BESIDE = Path(__file__).resolve().parents[3] / "shared/data/tegrastats"
SHARED = Path(os.environ.get("EDGE_RUNTIME_TELEMETRY_DATA", _BESIDE))
needs_shared = pytest.mark.skipif(
    not (SHARED / "expected.json").is_file(), reason=f"no recorded lines in {SHARED} (EDGE_RUNTIME_TELEMETRY_DATA)"
)


def items_of(folder: Path, name: str = "expected.json") -> list[dict[str, Any]]:
    """The items of a folder of recordings; none where it isn't there."""
    path = folder / name
    return json.loads(path.read_text()) if path.is_file() else []


def line_of(folder: Path, item: dict[str, Any]) -> str:
    """The line that an item is about."""
    return (folder / item["file"]).read_text().split("\n")[item["line"] - 1]


def own_lines() -> list[str]:
    """Every line of this repository."""
    return (OWN / "lines.log").read_text().splitlines()
