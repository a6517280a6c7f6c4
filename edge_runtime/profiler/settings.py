"""What a benchmark does: the `bench` section of the settings."""

from __future__ import annotations

from typing import Literal, Optional, Tuple

from pydantic import Field

from edge_runtime.config import Settings


class BenchSettings(Settings):
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
    layers: bool = Field(False, description="Time each layer of the plan too, in runs of their own.")
    layer_runs: int = Field(100, ge=1, le=10_000, description="Timed runs for the layers; p90 needs 64.")
    memory: Literal["auto", "mapped", "copy"] = Field("auto", description="Where TensorRT's inputs and outputs lie.")
    graphs: Literal["auto", "off"] = Field("auto", description="Whether TensorRT's runs become CUDA graphs.")
    plugins: Tuple[str, ...] = Field(
        (), description="Libraries of TensorRT plugins that aren't where the plan names them."
    )
    protocol: Optional[Literal["http", "grpc"]] = Field(
        None, description="Protocol to a server; without it the URL's, or http."
    )
    timeout_s: float = Field(60.0, gt=0, description="Longest wait for a server's answer, in seconds.")
