"""Time per layer as a report: a table in execution order, JSON, and a trace for chrome://tracing and Perfetto."""

from __future__ import annotations

import statistics
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np

from edge_runtime.engine.layers import LayerProfile, LayerTimes
from edge_runtime.evaluation.latency import min_samples

HEADER = ("layer", "kind", "precision", "median ms", "p90 ms", "share", "ONNX nodes")

_P90 = 0.9
_END_TO_END = "the backend gives durations only: in a trace the layers of a run are laid end to end"


class LayerReport:
    """What a profile of layers says. Shares are of the sum of the layers' means."""

    def __init__(self, profile: LayerProfile) -> None:
        self.profile = profile
        self._total_us = sum(_mean_us(layer) for layer in profile.layers)

    @property
    def sum_ms(self) -> float:
        """What all layers of a run take: the median of the runs."""
        return statistics.median(map(sum, zip(*(layer.durations_us for layer in self.profile.layers)))) / 1e3

    @property
    def whole_ms(self) -> float | None:
        """What a whole run takes while it is profiled, the median; None if that wasn't timed."""
        return statistics.median(self.profile.whole_us) / 1e3 if self.profile.whole_us else None

    @property
    def notes(self) -> Tuple[str, ...]:
        """What a reader must know of these times."""
        return (*self.profile.notes, *(() if _has_starts(self.profile) else (_END_TO_END,)))

    def rows(self) -> List[Tuple[str, ...]]:
        """A row under `HEADER` for each layer, in execution order."""
        return [
            (
                layer.name,
                layer.kind,
                layer.precision,
                f"{_median_us(layer) / 1e3:.3f}",
                _text(_p90_us(layer)),
                f"{self._share(layer):.1%}",
                ", ".join(layer.nodes),
            )
            for layer in self.profile.layers
        ]

    def summary(self, plain_ms: float, callers: int = 1) -> str:
        """The sum of the layers against whole runs, profiled and not; all are medians.

        `plain_ms` was measured apart, with so many `callers` at once.
        """
        apart = "measured apart" if callers == 1 else f"measured apart with {callers} callers at once"
        whole = "" if self.whole_ms is None else f" of {self.whole_ms:.3f} ms a run while profiled"
        return (
            f"{len(self.profile.layers):,} layers on {self.profile.backend}, {self.profile.runs:,} runs: "
            f"{self.sum_ms:.3f} ms in layers{whole}; {plain_ms:.3f} ms a run without profiling, {apart}"
        )

    def record(self) -> Dict[str, Any]:
        """The profile as JSON holds it, units in the names; null is unknown or n too small."""
        return {
            "backend": self.profile.backend,
            "runs": self.profile.runs,
            "sum_ms": self.sum_ms,
            "whole_run_ms": self.whole_ms,
            "notes": list(self.notes),
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind or None,
                    "precision": layer.precision or None,
                    "nodes": list(layer.nodes),
                    "median_ms": _median_us(layer) / 1e3,
                    "mean_ms": _mean_us(layer) / 1e3,
                    "p90_ms": _milliseconds(_p90_us(layer)),
                    "min_ms": min(layer.durations_us) / 1e3,
                    "max_ms": max(layer.durations_us) / 1e3,
                    "share": self._share(layer),
                }
                for layer in self.profile.layers
            ],
        }

    def trace(self, metadata: Mapping[str, Any]) -> Dict[str, Any]:
        """Every run and its layers in Chrome's trace format (an object), with `metadata` beside them."""
        names = {"process_name": self.profile.backend, "thread_name": "layers"}
        labels = [
            {"ph": "M", "pid": 1, "tid": 1, "ts": 0, "name": key, "args": {"name": value}}
            for key, value in names.items()
        ]
        return {
            "traceEvents": [*labels, *_events(self.profile)],
            "displayTimeUnit": "ms",
            "metadata": {**metadata, "notes": list(self.notes)},
        }

    def _share(self, layer: LayerTimes) -> float:
        return _mean_us(layer) / self._total_us if self._total_us else 0.0


def _events(profile: LayerProfile) -> Iterator[Dict[str, Any]]:
    details = [
        {"precision": layer.precision, "onnx_nodes": list(layer.nodes)} for layer in profile.layers
    ]  # one object for all runs of a layer
    has_starts, end_us = _has_starts(profile), 0.0
    for run in range(profile.runs):
        sum_us = sum(layer.durations_us[run] for layer in profile.layers)
        start_us = profile.whole_starts_us[run] if has_starts else end_us
        duration_us = profile.whole_us[run] if profile.whole_us else sum_us
        if not has_starts:
            duration_us = max(duration_us, sum_us)
        yield _event(f"run {run + 1}", "run", start_us, duration_us, {})
        end_us = start_us
        for layer, detail in zip(profile.layers, details):
            begin_us = layer.starts_us[run] if has_starts else end_us
            yield _event(layer.name, layer.kind, begin_us, layer.durations_us[run], detail)
            end_us = begin_us + layer.durations_us[run]
        end_us = max(end_us, start_us + duration_us)


def _event(name: str, kind: str, start_us: float, duration_us: float, detail: Mapping[str, Any]) -> Dict[str, Any]:
    return {
        "ph": "X",
        "pid": 1,
        "tid": 1,
        "name": name,
        "cat": kind or "layer",
        "ts": start_us,
        "dur": duration_us,
        "args": detail,
    }


def _has_starts(profile: LayerProfile) -> bool:
    return bool(profile.whole_starts_us) and all(layer.starts_us for layer in profile.layers)


def _mean_us(layer: LayerTimes) -> float:
    return statistics.fmean(layer.durations_us)


def _median_us(layer: LayerTimes) -> float:
    return statistics.median(layer.durations_us)


def _p90_us(layer: LayerTimes) -> float | None:
    """None where there are too few runs for it."""
    if len(layer.durations_us) < min_samples(_P90):
        return None
    return float(np.percentile(layer.durations_us, _P90 * 100))


def _milliseconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1e3


def _text(microseconds: float | None) -> str:
    return f"n < {min_samples(_P90)}" if microseconds is None else f"{microseconds / 1e3:.3f}"
