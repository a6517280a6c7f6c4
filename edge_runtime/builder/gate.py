"""The gate: which candidate is published, and why the others aren't."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.measure import Quality
from edge_runtime.evaluation.latency import LatencyRatio
from edge_runtime.evaluation.metrics import Metric
from edge_runtime.plan.manifest import CandidateRecord

TimeAgainst = Callable[[str, str], LatencyRatio]
"""The latency ratio of the second precision's engine over the first's."""


@dataclass(frozen=True)
class GateRules:
    """What must hold: the policy, the largest loss, and under `auto` the largest latency ratio."""

    policy: str
    metric: Metric | None
    max_drop: float
    max_latency_ratio: float
    publish_failed: bool


@dataclass(frozen=True)
class Decision:
    """The precision to publish (None: nothing), whether it failed the gate, and a record of every candidate."""

    chosen: str | None
    is_forced: bool
    records: list[CandidateRecord]

    @property
    def reason(self) -> str:
        """Why the candidates that weren't chosen weren't, in one line."""
        return "; ".join(f"{r.precision}: {r.reason}" for r in self.records if r.verdict in ("refused", "unavailable"))


def decide(
    candidates: list[Candidate], quality: Mapping[str, Quality], rules: GateRules, time_against: TimeAgainst
) -> Decision:
    """Goes from the widest candidate to the narrowest and keeps the last one that is worth it.

    A candidate is refused if it loses more than `max_drop` against float, or under `auto` if the whole confidence
    interval of its latency ratio against the best so far isn't within `max_latency_ratio`.
    """
    if rules.policy == "auto":
        return _decide_auto(candidates, quality, rules, time_against)
    return _decide_explicit(candidates, quality, rules, time_against)


def _decide_auto(
    candidates: list[Candidate], quality: Mapping[str, Quality], rules: GateRules, time_against: TimeAgainst
) -> Decision:
    chosen = "fp32"
    records: Dict[str, CandidateRecord] = {}
    for candidate in candidates:
        name = candidate.precision
        evidence = _quality_evidence(quality.get(name), rules.metric)
        if candidate.plan is None:
            verdict, reason = "unavailable", candidate.problem
        elif name == "fp32":
            verdict, reason = "passed", "the reference"
        elif name not in quality:
            verdict, reason = "refused", "accuracy not measured: no held-out data"
        else:
            verdict, reason = _accuracy(name, quality, rules)
            if verdict == "passed":
                latency = time_against(chosen, name)
                evidence["latency"] = _latency_record(latency, chosen)
                verdict, reason = _speed(latency, chosen, rules, reason)
        if verdict == "passed":
            chosen = name
        records[name] = _record(candidate, verdict, reason, evidence)
    records[chosen] = records[chosen].model_copy(update={"verdict": "chosen"})
    return Decision(chosen, False, list(records.values()))


def _decide_explicit(
    candidates: list[Candidate], quality: Mapping[str, Quality], rules: GateRules, time_against: TimeAgainst
) -> Decision:
    records = []
    is_forced = False
    for candidate in candidates:
        name = candidate.precision
        evidence = _quality_evidence(quality.get(name), rules.metric)
        if name != rules.policy:
            verdict, reason = "passed", f"the reference; {rules.policy} was asked for"
        elif name == "fp32":
            verdict, reason = "chosen", "asked for; it is the reference"
        else:
            evidence["latency"] = _latency_record(time_against("fp32", name), "fp32")
            verdict, reason = "chosen", "asked for; accuracy not measured: no held-out data"
            if name in quality:
                verdict, reason = _accuracy(name, quality, rules)
                verdict = "chosen" if verdict == "passed" else verdict
            if verdict == "refused" and rules.publish_failed:
                verdict, is_forced = "forced", True
        records.append(_record(candidate, verdict, reason, evidence))
    is_published = records[-1].verdict in ("chosen", "forced")
    return Decision(rules.policy if is_published else None, is_forced, records)


def _accuracy(name: str, quality: Mapping[str, Quality], rules: GateRules) -> tuple[str, str]:
    assert rules.metric is not None
    drop = rules.metric.degradation(quality["fp32"].score, quality[name].score)
    text = f"{rules.metric.name} {_number(quality[name].score.value)} against float's "
    text += f"{_number(quality['fp32'].score.value)}: loses {_number(drop)}"
    if drop <= rules.max_drop:
        return "passed", f"{text}, {_number(rules.max_drop)} allowed"
    return "refused", f"{text}, only {_number(rules.max_drop)} allowed"


def _speed(latency: LatencyRatio, against: str, rules: GateRules, reason: str) -> tuple[str, str]:
    text = f"latency {latency.ratio:.2f} ({latency.low:.2f}-{latency.high:.2f}) of {against}'s"
    if latency.high <= rules.max_latency_ratio:
        return "passed", f"{reason}; {text}"
    return "refused", f"not faster here: {text}, at most {rules.max_latency_ratio:.2f} allowed"


def _record(candidate: Candidate, verdict: str, reason: str, evidence: Dict[str, Any]) -> CandidateRecord:
    nbytes = None if candidate.plan is None else len(candidate.plan)
    return CandidateRecord(precision=candidate.precision, verdict=verdict, reason=reason, nbytes=nbytes, **evidence)


def _quality_evidence(quality: Quality | None, metric: Metric | None) -> Dict[str, Any]:
    if quality is None or metric is None:
        return {}
    return {"metric": _metric_record(metric, quality), "agreement": _agreement_record(quality)}


def _metric_record(metric: Metric, quality: Quality) -> Dict[str, Any]:
    score = quality.score
    return {
        "name": metric.name,
        "value": _finite(score.value),
        "low": _finite(score.low),
        "high": _finite(score.high),
        "n": score.n,
    }


def _agreement_record(quality: Quality) -> Dict[str, Any]:
    return {"cosine": _finite(quality.agreement.cosine), "sqnr_db": _finite(quality.agreement.sqnr_db)}


def _latency_record(latency: LatencyRatio, against: str) -> Dict[str, Any]:
    return {"against": against, "ratio": latency.ratio, "low": latency.low, "high": latency.high}


def _finite(value: float | None) -> float | None:
    """A value for JSON, which has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.4g}"
