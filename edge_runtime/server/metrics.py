"""The metrics page: Prometheus text, named as Triton names it, so that its dashboards fit."""

from __future__ import annotations

from typing import Callable, Iterable, Mapping

from edge_runtime.server.board import BoardReading
from edge_runtime.server.board_metrics import BOARD_HELP, add_board
from edge_runtime.server.ladder_view import LADDER_HELP
from edge_runtime.server.models import ServedModel
from edge_runtime.server.prometheus import Families, MetricsPage, labels_of
from edge_runtime.server.statistics import FAILURE_REASONS, PARTS


def metrics_page(
    models: Iterable[ServedModel],
    is_ready: bool,
    strangers: Mapping[str, int],
    board: BoardReading,
    others: Iterable[Callable[[], Families]] = (),
) -> str:
    """All counters of all models, durations in microseconds, and what is known of the board.

    `strangers` counts requests that access was refused to; `others` have more to tell.
    """
    page = MetricsPage({**_HELP, **LADDER_HELP, **BOARD_HELP})
    for model in models:
        counted = model.statistics.counted
        totals = counted.totals
        labels = labels_of(model=model.name, version=model.version)
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
        described = labels_of(backend=info.backend, device=info.device, precision=info.precision)
        page.add("edge_runtime_late_answers_total", "counter", labels, totals.late)
        page.add("edge_runtime_model_info", "gauge", f"{labels},{described}", 1)
        if model.ladder is not None:
            model.ladder().add_to(page, model.name, model.version)
        if model.engine.keeper is not None:
            for reason, count in model.engine.keeper.restarts.items():
                page.add("edge_runtime_engine_restarts_total", "counter", f'{labels},reason="{reason}"', count)
    for reason, count in strangers.items():
        page.add("edge_runtime_access_refused", "counter", f'reason="{reason}"', count)
    page.add("edge_runtime_ready", "gauge", "", int(is_ready))
    for families in others:
        page.add_families(families())
    add_board(page, board)
    return page.text()


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
    "edge_runtime_late_answers_total": "Answers that were made after their request's deadline",
    "edge_runtime_model_info": "What each model runs on; always 1",
    "edge_runtime_engine_restarts_total": "How often the process that a model runs in was replaced, by reason",
    "edge_runtime_access_refused": "Requests without a valid token, or without the right to what they asked for",
    "edge_runtime_ready": "Whether the server takes inferences",
}
