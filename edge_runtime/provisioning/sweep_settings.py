"""What a sweep tries and wants: the `sweep` section of the settings."""

from __future__ import annotations

from typing import List, Literal, Optional, Tuple

from pydantic import Field, field_validator

from edge_runtime.config import Settings
from edge_runtime.device.telemetry.board_choice import DESCRIPTION
from edge_runtime.provisioning.pareto import Bound, Column

_PRECISIONS = ("fp32", "fp16", "int8")


class SweepSettings(Settings):
    """Points, how long each is measured, and the limits for the one to take."""

    precisions: Tuple[str, ...] = Field(_PRECISIONS, description="Precisions to try.")
    batches: Tuple[int, ...] = Field((), description="Batch sizes to try; without any 1, 2, 4 to the largest.")
    power_modes: Tuple[str, ...] = Field((), description="Power modes to try, by name; without any all of the board.")
    n: int = Field(700, ge=10, description="Timed calls of each point at most; p99 needs 662.")
    rounds: int = Field(10, ge=2, le=100, description="Turns in which all points are measured one after the other.")
    budget_s: float = Field(5.0, gt=0, le=3600, description="Longest time for one point, seconds.")
    warm_up: int = Field(10, ge=0, description="Calls of each point before the timed ones.")
    threads: Optional[int] = Field(None, ge=1, description="Threads inside a run; without it all cores.")
    seed: int = Field(0, ge=0, description="Seed of the random inputs.")
    board: str = Field("auto", description=DESCRIPTION)
    interval_s: float = Field(
        0.1, ge=0.005, le=10, description="Seconds from one sample of the board to the next; a recording has its own."
    )
    energy: bool = Field(True, description="Measure energy too where power is known: half a minute or more a point.")
    objective: Literal["latency", "energy", "throughput"] = Field(
        "latency", description="What is best of the points that keep the limits: latency, energy or throughput."
    )
    max_latency_ms: Optional[float] = Field(None, gt=0, description="Most that p99 may be, in milliseconds.")
    max_energy_mj: Optional[float] = Field(None, gt=0, description="Most energy a sample may take, in millijoules.")
    min_quality: Optional[float] = Field(None, description="Worst score that the metric may have.")
    min_throughput: Optional[float] = Field(None, gt=0, description="Fewest samples a second.")

    @field_validator("precisions")
    @classmethod
    def _known(cls, values: Tuple[str, ...]) -> Tuple[str, ...]:
        if not values or len(set(values)) < len(values) or not set(values) <= set(_PRECISIONS):
            raise ValueError(f"expected some of {', '.join(_PRECISIONS)}, each once")
        return values

    @field_validator("batches")
    @classmethod
    def _positive(cls, values: Tuple[int, ...]) -> Tuple[int, ...]:
        if len(set(values)) < len(values) or any(value < 1 for value in values):
            raise ValueError("expected numbers of samples from 1 on, each once")
        return values

    def bounds(self, is_more_better: bool) -> List[Bound]:
        """What the point to take must keep; the direction is that of the quality's metric."""
        found = [
            Bound("failures of the gate", "gate_failures", 0, False),
            Bound("p99_ms", "p99_ms", self.max_latency_ms or 0, False) if self.max_latency_ms else None,
            Bound("energy_mj", "energy_mj", self.max_energy_mj or 0, False) if self.max_energy_mj else None,
            Bound("samples_per_s", "samples_per_s", self.min_throughput or 0, True) if self.min_throughput else None,
            None if self.min_quality is None else Bound("quality", "quality", self.min_quality, is_more_better),
        ]
        return [bound for bound in found if bound is not None]

    def order(self, is_more_better: bool) -> List[Column]:
        """The figures by which points are ranked, the objective first."""
        columns = columns_of(is_more_better)
        first = {"latency": "p50_ms", "energy": "energy_mj", "throughput": "samples_per_s"}[self.objective]
        return sorted(columns, key=lambda column: column[0] != first)


def columns_of(is_more_better: bool) -> List[Column]:
    """The figures of a point that count, and whether more is better."""
    return [("p50_ms", False), ("samples_per_s", True), ("energy_mj", False), ("quality", is_more_better)]
