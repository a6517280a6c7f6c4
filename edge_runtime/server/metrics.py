"""The metrics page: Prometheus text, named as Triton names it, so that its dashboards fit."""

from __future__ import annotations

from typing import Iterable, List, Mapping

from edge_runtime.server.latencies import cumulative
from edge_runtime.server.models import ServedModel
from edge_runtime.server.statistics import FAILURE_REASONS, PARTS, Counted

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_BOUNDS_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_page(models: Iterable[ServedModel], is_ready: bool, strangers: Mapping[str, int]) -> str:
    """All counters of all models; durations in microseconds. `strangers` counts requests that access was refused to."""
    page = _Page()
    for model in models:
        counted = model.statistics.counted
        totals = counted.totals
        labels = _labels(model=model.name, version=model.version)
        page.add("nv_inference_request_success", "counter", labels, totals.success)
        for reason in FAILURE_REASONS:
            page.add("nv_inference_request_failure", "counter", f'{labels},reason="{reason}"', totals.failures[reason])
        page.add("nv_inference_count", "counter", labels, totals.rows)
        page.add("nv_inference_exec_count", "counter", labels, totals.runs)
        page.add("nv_inference_pending_request_count", "gauge", labels, model.pending)
        page.add("nv_inference_request_duration_us", "counter", labels, totals.success_ns // 1000)
        for part, duration_ns in zip(PARTS, totals.parts_ns):
            page.add(f"nv_inference_{part}_duration_us", "counter", labels, duration_ns // 1000)
        page.add_histogram("nv_inference_first_response_histogram_ms", labels, counted)
        info = model.engine.info
        described = _labels(backend=info.backend, device=info.device, precision=info.precision)
        page.add("edge_runtime_model_info", "gauge", f"{labels},{described}", 1)
    for reason, count in strangers.items():
        page.add("edge_runtime_access_refused", "counter", f'reason="{reason}"', count)
    page.add("edge_runtime_ready", "gauge", "", int(is_ready))
    return page.text()


def _labels(**values: str) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items())


class _Page:
    """Samples grouped by metric, as the format wants them."""

    def __init__(self) -> None:
        self._families: dict[str, List[str]] = {}

    def add(self, name: str, kind: str, labels: str, value: int, suffix: str = "") -> None:
        family = self._families.setdefault(name, [f"# HELP {name} {_HELP.get(name, name)}", f"# TYPE {name} {kind}"])
        family.append(f"{name}{suffix}{{{labels}}} {value}" if labels else f"{name}{suffix} {value}")

    def add_histogram(self, name: str, labels: str, counted: Counted) -> None:
        bounds_ns = [round(bound * 1e6) for bound in _BOUNDS_MS]
        for bound, count in zip(_BOUNDS_MS, cumulative(counted.latencies, bounds_ns)):
            self.add(name, "histogram", f'{labels},le="{bound:g}"', count, "_bucket")
        self.add(name, "histogram", f'{labels},le="+Inf"', counted.totals.success, "_bucket")
        self.add(name, "histogram", labels, counted.totals.success_ns // 1_000_000, "_sum")
        self.add(name, "histogram", labels, counted.totals.success, "_count")

    def text(self) -> str:
        return "".join(f"{line}\n" for family in self._families.values() for line in family)


_HELP = {
    "nv_inference_request_success": "Number of successful inference requests",
    "nv_inference_request_failure": "Number of failed inference requests, by reason",
    "nv_inference_count": "Number of inferences, a batch of n being n",
    "nv_inference_exec_count": "Number of executions",
    "nv_inference_pending_request_count": "Requests that wait for execution",
    "nv_inference_request_duration_us": "Cumulative duration of successful requests in microseconds",
    "nv_inference_queue_duration_us": "Cumulative time in the queue in microseconds",
    "nv_inference_compute_input_duration_us": "Cumulative time to copy inputs in microseconds",
    "nv_inference_compute_infer_duration_us": "Cumulative time to run in microseconds",
    "nv_inference_compute_output_duration_us": "Cumulative time to encode outputs in microseconds",
    "nv_inference_first_response_histogram_ms": "Duration of successful requests in milliseconds",
    "edge_runtime_model_info": "What each model runs on; always 1",
    "edge_runtime_access_refused": "Requests without a valid token, or without the right to what they asked for",
    "edge_runtime_ready": "Whether the server takes inferences",
}
