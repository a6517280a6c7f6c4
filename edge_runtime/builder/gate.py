"""Which candidate is published, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Callable, List, Sequence, Tuple

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.trial import Quality, Tried
from edge_runtime.errors import BackendError
from edge_runtime.evaluation.latency import LatencyRatio
from edge_runtime.evaluation.metrics import Metric

TimeAgainst = Callable[[Candidate, Candidate], LatencyRatio]
"""The latency of the second candidate over the first one's."""


@dataclass(frozen=True)
class GateRules:
    """What must hold: the policy, the largest loss, and under `auto` the least gain of latency."""

    policy: str
    metric: Metric | None
    max_drop: float
    min_gain: float
    publish_failed: bool

    def is_accurate(self, quality: Quality | None) -> bool:
        """Whether a candidate loses little enough; one that wasn't measured isn't accurate."""
        return quality is not None and quality.loss.value <= self.max_drop


@dataclass(frozen=True)
class Judged:
    """A candidate that was tried, and its verdict; `latency` is over that of the candidate `against`."""

    tried: Tried
    verdict: str
    reason: str
    latency: LatencyRatio | None = None
    against: str = ""

    @property
    def name(self) -> str:
        """Which candidate it is."""
        return self.tried.candidate.name


@dataclass(frozen=True)
class Decision:
    """What to publish (None: nothing), whether it failed the gate, why, and what became of every candidate."""

    chosen: Tried | None
    is_forced: bool
    reason: str
    judged: Tuple[Judged, ...]
    warnings: Tuple[str, ...]


def best_int8(tried: Sequence[Tried], rules: GateRules) -> Tried | None:
    """The INT8 candidate that scores best; of equals the one nearest to float, then the first. Accurate ones first."""
    runnable = [one for one in tried if one.candidate.precision == "int8" and not one.problem]
    if not runnable:
        return None
    return max(runnable, key=lambda one: (rules.is_accurate(one.quality), *_merit(one.quality, rules.metric)))


def _merit(quality: Quality | None, metric: Metric | None) -> Tuple[float, float]:
    if quality is None or metric is None:
        return 0.0, 0.0
    sign = 1.0 if metric.higher_is_better else -1.0
    values = sign * quality.score.value, quality.agreement.sqnr_db
    return values[0] if math.isfinite(values[0]) else -math.inf, -math.inf if math.isnan(values[1]) else values[1]


def decide(
    tried: Sequence[Tried], rules: GateRules, time_against: TimeAgainst, beaten: Sequence[Judged] = ()
) -> Decision:
    """Goes from the widest candidate to the narrowest and keeps the last one that is worth it.

    Of the INT8 candidates only the best one competes; those in `beaten` lost to it before. A candidate is refused if it
    loses more than `max_drop` of float's score, or under `auto` if it isn't surely faster than the best so far, by
    `min_gain` or more.
    """
    winner = best_int8(tried, rules)
    judged: List[Judged] = []
    chosen: Tried | None = None
    for one in tried:
        if one.problem:
            judged.append(Judged(one, "unavailable", one.problem))
        elif one.candidate.precision == "int8" and one is not winner:
            judged.append(Judged(one, "refused", _beaten(one, winner, rules)))
        elif rules.policy == "auto":
            judged.append(_judged_auto(one, chosen, rules, time_against))
            chosen = one if judged[-1].verdict == "passed" else chosen
        else:
            judged.append(_judged_explicit(one, tried[0], rules, time_against))
            chosen = one
    return _concluded([*judged, *beaten], chosen, rules)


def judged_before(others: Sequence[Tried], winner: Tried | None, rules: GateRules) -> List[Judged]:
    """The candidates that aren't built for another backend, since `winner` was better, or they have a problem."""
    return [
        Judged(one, "unavailable", one.problem)
        if one.problem
        else Judged(one, "refused", f"not built: on ONNX Runtime {_beaten(one, winner, rules)}")
        for one in others
    ]


def _judged_auto(one: Tried, best: Tried | None, rules: GateRules, time_against: TimeAgainst) -> Judged:
    if one.unrun:
        return Judged(one, "unavailable", f"built, but not run: {one.unrun}")
    is_widest = best is None and one.candidate.precision == "fp32"
    if one.is_reference or (is_widest and (one.quality is None or rules.is_accurate(one.quality))):
        return Judged(one, "passed", "the reference")
    reason = "accuracy not measured: no held-out data" if one.quality is None else _accuracy(one.quality, rules)
    if not rules.is_accurate(one.quality):
        return Judged(one, "refused", reason)
    if best is None:
        return Judged(one, "passed", f"{reason}; there is nothing wider to be faster than")
    against = best.candidate.name
    latency, problem = _timed(one, best, time_against)
    is_faster = latency is not None and latency.ratio <= 1 - rules.min_gain and latency.high < 1
    text = problem if latency is None else f"latency {_latency_text(latency, against)}"
    if not is_faster:
        wanted = f"a gain of {_percent(rules.min_gain)} or more is wanted, else the wider precision wins"
        text = f"not faster here: {text}; {wanted}"
    verdict = "passed" if is_faster else "refused"
    return Judged(one, verdict, f"{reason}; {text}" if is_faster else text, latency, against if latency else "")


def _judged_explicit(one: Tried, reference: Tried, rules: GateRules, time_against: TimeAgainst) -> Judged:
    if one.candidate.precision != rules.policy:
        return Judged(one, "passed", f"the reference; {rules.policy} was asked for")
    if one.is_reference:
        return Judged(one, "passed", "asked for; it is the reference")
    if one.unrun:
        verdict = "forced" if rules.publish_failed else "refused"
        return Judged(one, verdict, f"built, but not run: {one.unrun}; accuracy and latency not measured")
    verdict, reason = "passed", "accuracy not measured: no held-out data"
    if one.quality is not None:
        reason = _accuracy(one.quality, rules)
        if not rules.is_accurate(one.quality):
            verdict = "forced" if rules.publish_failed else "refused"
    prefix = "" if verdict == "refused" else "asked for; "
    if one is reference or reference.problem or reference.unrun:
        return Judged(one, verdict, f"{prefix}{reason}")
    latency, problem = _timed(one, reference, time_against)
    against = reference.candidate.name
    text = problem if latency is None else f"latency {_latency_text(latency, against)}"
    return Judged(one, verdict, f"{prefix}{reason}; {text}", latency, "" if latency is None else against)


def _timed(one: Tried, other: Tried, time_against: TimeAgainst) -> Tuple[LatencyRatio | None, str]:
    """The latency of one over the other's, or why that can't be had: both must be loaded at once."""
    try:
        return time_against(other.candidate, one.candidate), ""
    except BackendError as error:
        return None, f"latency not measured: {error}"


def _concluded(judged: List[Judged], chosen: Tried | None, rules: GateRules) -> Decision:
    others = [f"{one.name}: {one.reason}" for one in judged if one.verdict in ("refused", "unavailable")]
    final = next((one for one in judged if one.tried is chosen), None)
    if final is None or final.verdict == "refused":
        return Decision(None, False, "; ".join(others), tuple(judged), ())
    if final.verdict == "passed":
        judged[judged.index(final)] = final = replace(final, verdict="chosen")
    reason = f"{final.name}: {final.reason}"
    if rules.policy == "auto" and final.name == "fp32":
        reason = "fp32: nothing narrower was both accurate and faster here" if others else "fp32: the reference"
    return Decision(final.tried, final.verdict == "forced", reason, tuple(judged), tuple(_warnings(judged, rules)))


def _warnings(judged: Sequence[Judged], rules: GateRules) -> List[str]:
    """Where the held-out samples are too few to be sure that a candidate which passed is accurate."""
    found = []
    for one in judged:
        quality = one.tried.quality
        if one.verdict not in ("chosen", "passed"):
            continue
        if one.tried.candidate.precision == "fp32":
            if quality is not None and not math.isfinite(quality.score.value):
                found.append("the float model's own answers on the held-out samples aren't all finite")
            continue
        if quality is None:
            found.append(f"the accuracy of {one.name} wasn't measured: there are no held-out samples")
            continue
        needed = quality.loss.needed(rules.max_drop)
        if needed is not None:
            found.append(
                f"too few held-out samples to be sure of {one.name}: {quality.loss.n:,} rows say that it loses "
                f"{_loss_text(quality)}, {_percent(rules.max_drop)} allowed; about {_rounded(needed):,} are needed"
            )
    return found


def _beaten(one: Tried, winner: Tried | None, rules: GateRules) -> str:
    if one.quality is None or winner is None or winner.quality is None or rules.metric is None:
        return f"{winner.candidate.name if winner else 'another'} was taken: nothing was measured to compare them by"
    if not rules.is_accurate(one.quality):
        return _accuracy(one.quality, rules)
    ours, theirs = one.quality, winner.quality
    if ours.score.value != theirs.score.value:
        values = f"{theirs.score.value:.6g} against {ours.score.value:.6g}"
        return f"{winner.candidate.name} scores better: {rules.metric.name} {values}"
    if _merit(ours, rules.metric) == _merit(theirs, rules.metric):
        return f"{winner.candidate.name} is as good, and comes first"
    return (
        f"{winner.candidate.name} is as good and nearer to float: SQNR {theirs.agreement.sqnr_db:.2f} dB "
        f"against {ours.agreement.sqnr_db:.2f}"
    )


def _accuracy(quality: Quality, rules: GateRules) -> str:
    assert rules.metric is not None
    of_what = "float's" if quality.score.magnitude is None else "the target's magnitude"
    text = f"{rules.metric.name} {_number(quality.score.value)}, loses {_loss_text(quality)} of {of_what}"
    allowed = _percent(rules.max_drop)
    return f"{text}, {allowed} allowed" if rules.is_accurate(quality) else f"{text}, only {allowed} allowed"


def _loss_text(quality: Quality) -> str:
    loss = quality.loss
    text = _percent(loss.value)
    if loss.low is None or loss.high is None:
        return text
    return f"{text} (95 % interval {_percent(loss.low)} to {_percent(loss.high)})"


def _latency_text(latency: LatencyRatio, against: str) -> str:
    return f"{latency.ratio:.2f} ({latency.low:.2f}-{latency.high:.2f}) of {against}'s"


def _rounded(count: int) -> int:
    """To two digits: it is an estimate."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if math.isfinite(share) else "everything"


def _number(value: float) -> str:
    return f"{value:.4g}"
