"""What a build leaves on record: the manifest of the plan that is published."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from edge_runtime import __version__
from edge_runtime.builder.gate import Decision, Judged
from edge_runtime.builder.job import Job
from edge_runtime.builder.maker import Made
from edge_runtime.builder.mixed import GroupError
from edge_runtime.builder.trial import Quality
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.evaluation.latency import LatencyRatio
from edge_runtime.evaluation.metrics import Metric
from edge_runtime.graph.model import OnnxModel
from edge_runtime.plan.contents import PlanPart
from edge_runtime.plan.manifest import (
    CHAIN_SCHEMA,
    SCHEMA,
    AgreementRecord,
    BackendRecord,
    CandidateRecord,
    ChainRecord,
    DataRecord,
    GoldenRecord,
    LatencyRecord,
    LossRecord,
    Manifest,
    MetricRecord,
    PartRecord,
    SensitivityRecord,
    SourceRecord,
    range_record,
    tensor_record,
)


@dataclass(frozen=True)
class Result:
    """What a build came to: the float graph, the decision, and what was measured on the way.

    `cuts` are the tensors at which the model was cut, `split_latency` is that of the parts over the whole's.
    `golden` is None where the plan's golden run isn't stored.
    """

    source: OnnxModel
    decision: Decision
    errors: Tuple[GroupError, ...]
    metric: Metric | None
    data_keys: Mapping[str, Any]
    cuts: Tuple[str, ...] = ()
    split_latency: LatencyRatio | None = None
    golden: GoldenRecord | None = None


def manifest_of(job: Job, made: Made, result: Result, version: int) -> Manifest:
    """The manifest of the plan that was decided for."""
    decision, backend = result.decision, job.backend
    candidate, signature = made.candidate, made.signature
    return Manifest(
        schema_version=CHAIN_SCHEMA if result.cuts else SCHEMA,
        name=job.recipe.name,
        version=version,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        edge_runtime=__version__,
        build_key=job.key,
        precision=candidate.precision,
        forced=decision.is_forced,
        plan=made.parts[0].files.record,
        source=SourceRecord(
            source=job.onnx_path.name,
            digest=result.source.digest,
            files=dict(result.source.files),
            pack=job.pack_sha256,
        ),
        data=DataRecord(**result.data_keys, table_sha256=_table_sha256(candidate.table)),
        backend=BackendRecord(
            name=backend.name, version=backend.version, platform=backend.platform, device=backend.device
        ),
        device=job.device.record(),
        inputs=[tensor_record(spec) for spec in signature.inputs],
        outputs=[tensor_record(spec) for spec in signature.outputs],
        profile={name: range_record(limits) for name, limits in signature.profile.items()},
        max_batch_size=signature.max_batch_size,
        candidates=[candidate_record(judged, result.metric) for judged in decision.judged],
        target=made.target,
        reason=decision.reason,
        notes=list(job.progress.notes),
        sensitivity=sensitivity_records(result.errors),
        chain=_chain_record(made, result) if result.cuts else None,
        golden=result.golden,
    )


def _chain_record(made: Made, result: Result) -> ChainRecord:
    latency = result.split_latency
    return ChainRecord(
        split=list(result.cuts),
        parts=[_part_record(part) for part in made.parts],
        latency=None
        if latency is None
        else LatencyRecord(against="the whole", ratio=latency.ratio, low=latency.low, high=latency.high),
    )


def _part_record(part: PlanPart) -> PartRecord:
    signature = part.signature
    return PartRecord(
        plan=part.files.record,
        inputs=[tensor_record(spec) for spec in signature.inputs],
        outputs=[tensor_record(spec) for spec in signature.outputs],
        profile={name: range_record(limits) for name, limits in signature.profile.items()},
        nodes=list(part.nodes),
    )


def _table_sha256(table: CalibrationTable | None) -> str | None:
    return hashlib.sha256(table.to_cache_text().encode()).hexdigest() if table else None


def candidate_record(judged: Judged, metric: Metric | None) -> CandidateRecord:
    """One candidate as the manifest has it."""
    tried, latency = judged.tried, judged.latency
    candidate = tried.candidate
    return CandidateRecord(
        name=candidate.name,
        precision=candidate.precision,
        calibrator=candidate.calibrator,
        verdict=judged.verdict,
        reason=judged.reason,
        nbytes=tried.nbytes,
        int8_macs=tried.int8_macs,
        kept_float=list(tried.kept_float),
        latency=None
        if latency is None
        else LatencyRecord(against=judged.against, ratio=latency.ratio, low=latency.low, high=latency.high),
        **_quality(tried.quality, metric),
    )


def _quality(quality: Quality | None, metric: Metric | None) -> Dict[str, Any]:
    if quality is None or metric is None:
        return {}
    score, loss, agreement = quality.score, quality.loss, quality.agreement
    return {
        "metric": MetricRecord(
            name=metric.name,
            value=_finite(score.value),
            low=_finite(score.low),
            high=_finite(score.high),
            n=score.n,
            better="higher" if metric.higher_is_better else "lower",
            magnitude=_finite(score.magnitude),
        ),
        "loss": LossRecord(value=_finite(loss.value), low=_finite(loss.low), high=_finite(loss.high)),
        "agreement": AgreementRecord(cosine=_finite(agreement.cosine), sqnr_db=_finite(agreement.sqnr_db)),
    }


def sensitivity_records(errors: Sequence[GroupError]) -> List[SensitivityRecord]:
    """The groups as the manifest has them, in the given order."""
    return [
        SensitivityRecord(
            group=one.group, kind=one.kind, nodes=sorted(one.nodes), error=_finite(one.error), macs=one.macs
        )
        for one in errors
    ]


def _finite(value: float | None) -> float | None:
    """A value for JSON, which has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
