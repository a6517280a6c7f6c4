"""Tables of what a build found, for a person."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, List, Optional, Sequence

if TYPE_CHECKING:
    from edge_runtime.cli.output import Output
    from edge_runtime.plan.manifest import CandidateRecord, MetricRecord, SensitivityRecord

_MOST_LAYERS = 20


def show_candidates(title: str, candidates: Sequence[CandidateRecord], output: Output) -> None:
    """Every candidate with what was measured, and why it was taken or not."""
    metric = next((candidate.metric.name for candidate in candidates if candidate.metric), "metric")
    header = ("candidate", "verdict", f"{metric} (95 %)", "cosine", "SQNR dB", "INT8 MACs", "latency (95 %)", "bytes")
    output.table(title, header, [_row(candidate) for candidate in candidates])
    for candidate in candidates:
        output.say(f"{candidate.name or candidate.precision} {candidate.verdict}: {candidate.reason}")


def show_sensitivity(
    candidates: Sequence[CandidateRecord], records: Sequence[SensitivityRecord], output: Output
) -> None:
    """The groups of layers that lose most by INT8, the worst first; nothing if that wasn't measured."""
    if not records:
        return
    published = (candidate for candidate in candidates if candidate.verdict in ("chosen", "forced"))
    kept = {node for candidate in published for node in candidate.kept_float}
    rows = [
        [
            record.group,
            record.kind,
            _error_db(record.error),
            f"{record.macs:.1%}",
            "" if kept.isdisjoint(record.nodes) else "float",
        ]
        for record in records[:_MOST_LAYERS]
    ]
    more = f", the worst {_MOST_LAYERS} of {len(records)}" if len(records) > _MOST_LAYERS else ""
    title = f"layers in INT8 one group at a time{more}: error at the outputs against float's energy"
    output.table(title, ("group", "kind", "error dB", "MACs", "left in"), rows)


def _error_db(error: Optional[float]) -> str:
    if error is None:
        return "not finite"
    return f"{10 * math.log10(error):.1f}" if error else "none"


def _row(candidate: CandidateRecord) -> List[str]:
    metric, agreement = candidate.metric, candidate.agreement
    return [
        candidate.name or candidate.precision,
        candidate.verdict,
        _metric(metric) if metric else "not measured",
        _number(agreement.cosine) if agreement else "not measured",
        _sqnr(agreement.sqnr_db, agreement.cosine) if agreement else "not measured",
        f"{candidate.int8_macs:.0%}" if candidate.int8_macs is not None else "",
        _latency(candidate),
        f"{candidate.nbytes:,}" if candidate.nbytes is not None else "",
    ]


def _latency(candidate: CandidateRecord) -> str:
    latency = candidate.latency
    if latency is None:
        return "reference" if candidate.precision == "fp32" else "not timed"
    return f"{latency.ratio:.2f} ({latency.low:.2f}-{latency.high:.2f})"


def _metric(metric: MetricRecord) -> str:
    text = _number(metric.value)
    if metric.low is None or metric.high is None:
        return text
    return f"{text} ({metric.low:.4f}-{metric.high:.4f})"


def _number(value: Optional[float]) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _sqnr(value: Optional[float], cosine: Optional[float]) -> str:
    if value is None:
        return "equal" if cosine is not None else "not finite"
    return f"{value:.1f}"
