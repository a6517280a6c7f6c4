"""What a benchmark found, as JSON and as rows of a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Tuple

from edge_runtime.evaluation.latency import LatencySummary
from edge_runtime.profiler.environment import NOT_MEASURED, Environment
from edge_runtime.profiler.layers import LayerReport
from edge_runtime.profiler.repeats import Repeat
from edge_runtime.profiler.settings import BenchSettings
from edge_runtime.tensors import DType, Feeds

SCHEMA = 1
_ALWAYS_UNMEASURED = ("power", "temperature")


@dataclass(frozen=True)
class ColdStart:
    """Loading (plan on disk to engine, with the import of its library) and the first inference after it.

    `load_ms` is None for a server, which had loaded already.
    """

    load_ms: float | None
    first_inference_ms: float


@dataclass(frozen=True)
class BenchReport:
    """One benchmark of `target` (facts by name, with `kind` `engine` or `server`).

    `input_source` says where the inputs came from; `samples_per_call` is None for a model without a batch axis;
    `layers` is None where they weren't timed. `repeats` hold every call that `latency` sums up.
    """

    target: Mapping[str, Any]
    settings: BenchSettings
    input_source: str
    inputs: Mapping[str, Mapping[str, Any]]
    samples_per_call: int | None
    cold_start: ColdStart
    latency: LatencySummary
    environment: Environment
    layers: LayerReport | None = None
    repeats: Tuple[Repeat, ...] = field(default=(), repr=False)

    @property
    def samples_per_s(self) -> float | None:
        """Throughput in samples, where calls have a batch axis."""
        return None if self.samples_per_call is None else self.latency.throughput_per_s * self.samples_per_call

    @property
    def not_measured(self) -> Tuple[str, ...]:
        """What a reader might look for and doesn't find here."""
        names = (*_ALWAYS_UNMEASURED, *(("time per layer",) if self.layers is None else ()))
        return (*names, "load time", "the server's machine") if self.cold_start.load_ms is None else names

    def record(self) -> Dict[str, Any]:
        """The report as JSON holds it, units in the names; null is unknown or not measured."""
        latency = asdict(self.latency)
        calls_per_s = latency.pop("throughput_per_s")
        latency["n_too_small"] = {name: f"n too small ({least:,} needed)" for name, least in self.latency.too_small()}
        return {
            "schema": SCHEMA,
            "target": dict(self.target),
            "settings": self.settings.model_dump(mode="json"),
            "input": {"source": self.input_source, "tensors": {name: dict(row) for name, row in self.inputs.items()}},
            "cold_start": asdict(self.cold_start),
            "latency": latency,
            "throughput": {"calls_per_s": calls_per_s, "samples_per_s": self.samples_per_s},
            "layers": None if self.layers is None else self.layers.record(),
            "environment": self.environment.record(),
            "not_measured": list(self.not_measured),
        }

    def trace(self) -> Dict[str, Any]:
        """The runs and their layers in Chrome's trace format, with what was measured and where.

        The layers must have been timed.
        """
        assert self.layers is not None
        record = self.record()
        return self.layers.trace({key: record[key] for key in ("target", "settings", "input", "environment")})

    def rows(self) -> List[Tuple[str, str]]:
        """Label and text of every figure, for a table."""
        loaded, callers = self.cold_start.load_ms, self.settings.concurrency
        samples = [] if self.samples_per_s is None else [("", f"{self.samples_per_s:,.1f} samples/s")]
        return [
            *((name.replace("_", " "), str(value)) for name, value in self.target.items() if value is not None),
            ("input", f"{self.input_source}: {_tensors_text(self.inputs)}"),
            ("concurrency", f"{callers}"),
            ("load", NOT_MEASURED if loaded is None else f"{loaded:.1f} ms"),
            ("first inference", f"{self.cold_start.first_inference_ms:.3f} ms"),
            ("warm-up", f"{self.settings.warm_up:,} calls"),
            *self.latency.rows(),
            *samples,
            *([] if self.layers is None else [("layers", self.layers.summary(self.latency.p50_ms, callers))]),
            *self.environment.rows(),
            *((name, NOT_MEASURED) for name in self.not_measured if name != "load time"),
        ]


def tensor_records(feeds: Feeds) -> Dict[str, Dict[str, Any]]:
    """Data type and shape of each array, as a report writes them."""
    return {
        name: {"dtype": DType.from_numpy(value.dtype.newbyteorder("=")).value, "shape": list(value.shape)}
        for name, value in feeds.items()
    }


def _tensors_text(inputs: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{name} {row['dtype']} {'x'.join(map(str, row['shape'])) or 'scalar'}" for name, row in inputs.items()
    )
