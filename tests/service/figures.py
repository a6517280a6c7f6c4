"""What is measured under systemd, against its bars: a table at the end, and JSON for the operations benchmark."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

FILE = Path(__file__).resolve().parents[2] / ".bench" / "operations" / "service.json"


@dataclass(frozen=True)
class Figure:
    """One of them; `n` is of how many the figure is the worst."""

    number: str
    goal: str
    measured: str
    n: int
    is_held: bool


class Figures:
    """All of a run."""

    def __init__(self) -> None:
        self.rows: List[Figure] = []

    def add(self, number: str, goal: str, measured: str, n: int, is_held: bool) -> None:
        """Takes in what either is so or isn't, and fails the test that measured it if it isn't."""
        self.rows.append(Figure(number, goal, measured, n, is_held))
        assert is_held, f"{goal}: {measured}"

    def add_time(self, number: str, goal: str, text: str, n: int, times: Sequence[Tuple[float, float]]) -> None:
        """Takes in times in seconds, each with its bar; a test fails at ten times the bar, for machines are shared."""
        self.rows.append(Figure(number, goal, text, n, all(took_s <= bar_s for took_s, bar_s in times)))
        assert all(took_s <= 10 * bar_s for took_s, bar_s in times), f"{goal}: {text}"

    def write(self, say: Callable[[str], object]) -> None:
        """Says them, line by line, and writes the JSON."""
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(json.dumps([asdict(row) for row in self.rows], indent=1) + "\n")
        say("")
        for row in self.rows:
            say(f"{'held' if row.is_held else 'NOT HELD':8} {row.number:3} {row.goal}: {row.measured}")
