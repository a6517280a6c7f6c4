"""Progress that keeps what it hears."""

from __future__ import annotations

from typing import List


class Heard:
    """Stages and notes of a build."""

    def __init__(self) -> None:
        self.stages: List[str] = []
        self.notes: List[str] = []
        self.steps = 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append(name)

    def advance(self, steps: int = 1) -> None:
        self.steps += steps

    def note(self, text: str) -> None:
        self.notes.append(text)
