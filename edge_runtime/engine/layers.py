"""What a backend says about the layers of a run: how long each took, in which precision, and for which ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class ProfileOptions:
    """How many runs are timed, how many come before them, and how many threads each may use, where that is ours.

    `plugins` are libraries that aren't where the plan was built with them.
    """

    runs: int
    warm_up: int
    threads: int
    plugins: Tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerTimes:
    """One layer of the engine, with its duration in each timed run, in microseconds.

    `nodes` are the names of the ONNX nodes that it computes; none where it was inserted, or that isn't known.
    `precision` is the data type of its first input and output, or `INT8 to FP16` where they differ; "" is unknown.
    `starts_us` are its offsets on the profile's clock, one a run; empty where the backend gives durations only.
    """

    name: str
    kind: str
    precision: str
    nodes: Tuple[str, ...]
    durations_us: Tuple[float, ...]
    starts_us: Tuple[float, ...] = ()


@dataclass(frozen=True)
class LayerProfile:
    """The layers of `runs` timed runs in execution order, and the duration of each whole run while it was profiled.

    `notes` say what a reader must know of how this backend times layers.
    """

    backend: str
    layers: Tuple[LayerTimes, ...]
    runs: int
    whole_us: Tuple[float, ...]
    notes: Tuple[str, ...] = ()
    whole_starts_us: Tuple[float, ...] = ()


def precision_text(before: str, after: str) -> str:
    """The precision of a layer that reads and writes these data types ("" is unknown)."""
    return f"{before} to {after}" if before and after and before != after else after or before
