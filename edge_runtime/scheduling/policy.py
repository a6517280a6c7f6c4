"""What a model may ask of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelPolicy:
    """Limits of one registered model.

    Attributes:
        name: the model.
        slots: how many runs of it may be out at once.
        queue_size: how many of its requests may wait.
        max_batch: the largest number of rows of a run; 0 or 1: its requests never share a run.
        segments: plans that run one after the other as a chain; other models may run in between.
    """

    name: str
    slots: int
    queue_size: int
    max_batch: int = 0
    segments: int = 1
