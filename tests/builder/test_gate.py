from __future__ import annotations

import math
from typing import Dict

import pytest

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.gate import Decision, GateRules, decide
from edge_runtime.builder.measure import Quality
from edge_runtime.evaluation.distance import AgreementScore
from edge_runtime.evaluation.latency import LatencyRatio
from edge_runtime.evaluation.metrics import metric_from_name
from edge_runtime.evaluation.score import Score

ALL = [Candidate(precision, b"plan") for precision in ("fp32", "fp16", "int8")]


def quality(**accuracy: float) -> Dict[str, Quality]:
    return {name: Quality(Score(v, v, v, 100), AgreementScore(0.99, 30.0)) for name, v in accuracy.items()}


def verdict(
    policy: str,
    scores: Dict[str, Quality],
    ratios: Dict[str, float] | None = None,
    candidates: list[Candidate] = ALL,
    publish_failed: bool = False,
) -> Decision:
    rules = GateRules(policy, metric_from_name("accuracy"), 0.01, 1.0, publish_failed)
    speeds = ratios or {}
    if policy != "auto":
        candidates = [c for c in candidates if c.precision in ("fp32", policy)]
    return decide(
        candidates, scores, rules, lambda _, name: LatencyRatio(speeds[name], speeds[name] - 0.1, speeds[name] + 0.1)
    )


@pytest.mark.parametrize(
    ("ratios", "chosen"),
    [
        ({"fp16": 0.5, "int8": 0.5}, "int8"),
        ({"fp16": 0.5, "int8": 1.2}, "fp16"),
        ({"fp16": 1.5, "int8": 0.5}, "int8"),
        ({"fp16": 0.95, "int8": 0.95}, "fp32"),
    ],
)
def test_auto_takes_the_narrowest_that_is_surely_faster_than_the_best_before_it(
    ratios: Dict[str, float], chosen: str
) -> None:
    assert verdict("auto", quality(fp32=0.98, fp16=0.98, int8=0.975), ratios).chosen == chosen


def test_auto_refuses_what_loses_too_much_and_says_so() -> None:
    decision = verdict("auto", quality(fp32=0.98, fp16=0.98, int8=0.96), {"fp16": 0.5})
    assert decision.chosen == "fp16"
    assert decision.reason == "int8: accuracy 0.96 against float's 0.98: loses 0.02, only 0.01 allowed"
    assert [record.verdict for record in decision.records] == ["passed", "chosen", "refused"]


def test_auto_without_held_out_data_stays_at_float() -> None:
    decision = verdict("auto", {})
    assert decision.chosen == "fp32"
    assert "no held-out data" in decision.reason


def test_auto_goes_on_when_a_candidate_could_not_be_made() -> None:
    candidates = [ALL[0], Candidate("fp16", None, "no such op"), ALL[2]]
    decision = verdict("auto", quality(fp32=0.98, int8=0.98), {"int8": 0.5}, candidates)
    assert decision.chosen == "int8"
    assert decision.records[1].verdict == "unavailable"


def test_an_explicit_precision_is_published_however_slow_it_is() -> None:
    decision = verdict("int8", quality(fp32=0.98, int8=0.98), {"int8": 3.0})
    assert (decision.chosen, decision.is_forced) == ("int8", False)
    latency = decision.records[-1].latency
    assert latency is not None
    assert (latency.against, latency.ratio, latency.low, latency.high) == ("fp32", 3.0, 2.9, 3.1)


@pytest.mark.parametrize("loss", [0.02, math.nan, math.inf])
def test_an_explicit_precision_that_fails_is_not_published(loss: float) -> None:
    decision = verdict("int8", quality(fp32=0.98, int8=0.98 - loss), {"int8": 0.5})
    assert decision.chosen is None
    assert decision.records[-1].verdict == "refused"


def test_a_failed_one_is_published_as_forced_when_told() -> None:
    decision = verdict("int8", quality(fp32=0.98, int8=0.5), {"int8": 0.5}, publish_failed=True)
    assert (decision.chosen, decision.is_forced, decision.records[-1].verdict) == ("int8", True, "forced")


def test_an_explicit_precision_without_held_out_data_says_what_was_not_measured() -> None:
    decision = verdict("fp16", {}, {"fp16": 0.5})
    assert decision.chosen == "fp16"
    assert "not measured" in decision.records[-1].reason
