"""What a benchmark and a profile do: the `bench` and `profile` sections of the settings."""

from __future__ import annotations

from typing import Literal, Optional, Tuple

from pydantic import Field, model_validator

from edge_runtime.config import Settings
from edge_runtime.device.telemetry.board_choice import DESCRIPTION

MOST_CALLS = 2_000_000


class RunSettings(Settings):
    """How many calls are timed, by how many callers, on what."""

    n: int = Field(1000, ge=1, description="Timed calls; p90 needs 64, p99 662 and p99.9 6,636.")
    warm_up: int = Field(50, ge=0, description="Calls before the timed ones.")
    concurrency: int = Field(1, ge=1, le=1024, description="Callers; each sends its next call when it has an answer.")
    duration_s: Optional[float] = Field(None, gt=0, description="Stop timing after this many seconds, if before n.")
    batch: Optional[int] = Field(
        None, ge=1, description="Samples a call; without it 1, or the fewest that the model takes."
    )
    seed: int = Field(0, ge=0, description="Seed of the random inputs.")
    threads: Optional[int] = Field(None, ge=1, description="Threads inside a run in this process; without it shared.")
    layer_runs: int = Field(100, ge=1, le=10_000, description="Timed runs for the layers; p90 needs 64.")
    memory: Literal["auto", "mapped", "copy"] = Field("auto", description="Where TensorRT's inputs and outputs lie.")
    graphs: Literal["auto", "off"] = Field("auto", description="Whether TensorRT's runs become CUDA graphs.")
    plugins: Tuple[str, ...] = Field(
        (), description="Libraries of TensorRT plugins that aren't where the plan names them."
    )


class BenchSettings(RunSettings):
    """A benchmark of a plan in this process, or of a server."""

    repeats: int = Field(
        1, ge=1, le=100, description="Loadings that the timed calls are shared out over, so that their spread is known."
    )
    layers: bool = Field(False, description="Time each layer of the plan too, in runs of their own.")
    protocol: Optional[Literal["http", "grpc"]] = Field(
        None, description="Protocol to a server; without it the URL's, or http."
    )
    timeout_s: float = Field(60.0, gt=0, description="Longest wait for a server's answer, in seconds.")


class ProfileSettings(RunSettings):
    """A profile of a plan in this process: under which load, for how long, and what is watched meanwhile."""

    n: int = Field(1000, ge=1, le=MOST_CALLS, description="Timed calls; p90 needs 64, p99 662 and p99.9 6,636.")
    warm_up: int = Field(50, ge=1, description="Calls before the timed ones; how long they take to settle is said.")
    concurrency: int = Field(
        1, ge=1, le=1024, description="Callers, each with a slot; with a rate, how many calls can be under way at once."
    )
    duration_s: Optional[float] = Field(
        None, gt=0, le=86_400, description="Time for so many seconds, instead of n calls."
    )
    rate_per_s: Optional[float] = Field(
        None, gt=0, le=1e6, description="Calls arrive by chance (Poisson) at this rate, answered or not."
    )
    seed: int = Field(0, ge=0, description="Seed of the random inputs and of the arrivals.")
    layers: bool = Field(True, description="Time each layer of the plan too, in runs of their own.")
    board: str = Field("auto", description=DESCRIPTION)
    interval_s: float = Field(
        0.1, ge=0.005, le=10, description="Seconds from one telemetry sample to the next; a recording has its own."
    )
    baseline_s: float = Field(
        30.0, ge=0, le=600, description="Seconds of idling, the plan loaded, that net energy is counted from; 0: none."
    )

    @property
    def expected_s(self) -> float | None:
        """About how long the board is watched; None where only the calls' own time decides it."""
        if self.duration_s is None:
            return None if self.rate_per_s is None else 60 + self.baseline_s + 2 * self.n / self.rate_per_s
        return 60 + self.baseline_s + 2 * self.duration_s

    @model_validator(mode="after")
    def _check_end(self) -> ProfileSettings:
        if self.duration_s is None:
            return self
        if "n" in self.model_fields_set:
            raise ValueError(f"both n ({self.n}) and duration_s ({self.duration_s:g}); the timed phase has one end")
        if self.rate_per_s is not None and self.rate_per_s * self.duration_s > MOST_CALLS:
            raise ValueError(
                f"{self.rate_per_s:g} calls/s for {self.duration_s:g} s are more than {MOST_CALLS:,} calls; take less"
            )
        return self


class RegressionSettings(Settings):
    """How much worse than its baseline a benchmark may be: the `regression` section."""

    max_latency_pct: float = Field(5.0, ge=0, le=1000, description="Most that p50 may rise, in percent.")
    max_tail_pct: Optional[float] = Field(
        None, ge=0, le=10_000, description="Most that p99 may rise, in percent; without it as p50."
    )
    max_throughput_drop_pct: float = Field(5.0, ge=0, lt=100, description="Most that throughput may fall, in percent.")
    max_quality_drop_pct: float = Field(2.0, ge=0, le=100, description="Most that the metric may fall, in percent.")
    session_spread_pct: float = Field(
        1.0, ge=0, le=100, description="Spread of p50 between sessions that is assumed until a baseline has several."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the intervals, two-sided.")
    strict: bool = Field(False, description="Fail too where the calls were too few for a verdict.")
