"""Boards start in 1970 and jump to now: the time of day is shown, and decides nothing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "edge_runtime"
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
SHOWN = {
    "builder/records.py": "when a plan was built, in its manifest",
    "profiler/baseline.py": "when a baseline was taken",
    "provisioning/memory.py": "when a board's memory was measured",
    "server/work.py": "last_inference of the protocol's statistics",
}


def wall_clock_reads(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Attribute, ast.Name)):
            name = dotted(node)
            if ".".join(name.split(".")[-2:]) in WALL:
                yield name


def dotted(node: ast.AST) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""


def test_the_time_of_day_is_read_only_to_be_shown() -> None:
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if any(wall_clock_reads(path))}
    assert found == set(SHOWN)


@pytest.mark.parametrize("name", ["time.time", "time.time_ns"])
def test_a_read_of_it_would_be_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.py").write_text(f"import time\nEXPIRES = {name}() + 5\n")
    assert list(wall_clock_reads(tmp_path / "m.py")) == [name]
