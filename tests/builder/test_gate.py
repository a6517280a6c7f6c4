from __future__ import annotations

import math
from typing import Any, Dict, List

import pytest

from edge_runtime.builder.candidates import Candidate
from edge_runtime.builder.gate import Decision, GateRules, best_int8, decide
from edge_runtime.builder.trial import Quality, Tried
from edge_runtime.evaluation.distance import AgreementScore
from edge_runtime.evaluation.latency import LatencyRatio
from edge_runtime.evaluation.loss import Loss
from edge_runtime.evaluation.metrics import metric_from_name
from edge_runtime.evaluation.score import Score

ACCURACY = metric_from_name("accuracy")


def tried(name: str, accuracy: float | None = 0.98, sqnr_db: float = 30.0, problem: str = "") -> Tried:
    candidate = Candidate(name, name.split(maxsplit=1)[0], make=lambda: pytest.fail("a decision makes no graph"))
    if accuracy is None or problem:
        return Tried(candidate, problem=problem)
    score = Score(accuracy, accuracy, accuracy, 1000)
    lost = ACCURACY.loss(Score(0.98, None, None, 1000), score)
    return Tried(candidate, 100, quality=Quality(score, Loss(lost, lost, lost, 1000), AgreementScore(0.99, sqnr_db)))


def decision(policy: str, *others: Tried, ratios: Dict[str, float] | None = None, **rules: Any) -> Decision:
    limits = {"max_drop": 0.01, "min_gain": 0.05, "publish_failed": False, **rules}
    has_data = not others or others[0].quality is not None or bool(others[0].problem)
    candidates: List[Tried] = [tried("fp32", 0.98 if has_data else None), *others]

    def time_against(_: Candidate, narrower: Candidate) -> LatencyRatio:
        ratio = (ratios or {})[narrower.name]
        return LatencyRatio(ratio, ratio - 0.02, ratio + 0.02)

    return decide(candidates, GateRules(policy, ACCURACY, **limits), time_against)


def name_of(result: Decision) -> str | None:
    return result.chosen.candidate.name if result.chosen else None


def verdicts(result: Decision) -> Dict[str, str]:
    return {one.name: one.verdict for one in result.judged}


@pytest.mark.parametrize(
    ("ratios", "chosen"),
    [
        ({"fp16": 0.5, "int8 max": 0.5}, "int8 max"),
        ({"fp16": 0.5, "int8 max": 1.2}, "fp16"),
        ({"fp16": 1.5, "int8 max": 0.5}, "int8 max"),
        ({"fp16": 0.96, "int8 max": 0.96}, "fp32"),
        ({"fp16": 0.95, "int8 max": 0.99}, "fp16"),
    ],
)
def test_auto_takes_the_narrowest_that_gains_enough_on_the_best_before_it(
    ratios: Dict[str, float], chosen: str
) -> None:
    result = decision("auto", tried("fp16"), tried("int8 max", 0.975), ratios=ratios)
    assert name_of(result) == chosen
    assert verdicts(result)[chosen] == "chosen"
    assert result.reason.startswith(chosen)


def test_a_gain_that_noise_may_have_made_is_none() -> None:
    assert name_of(decision("auto", tried("fp16"), ratios={"fp16": 0.99}, min_gain=0.0)) == "fp32"


def test_the_loss_is_relative_to_floats_score() -> None:
    assert name_of(decision("auto", tried("fp16", 0.9703), ratios={"fp16": 0.5})) == "fp16"
    result = decision("auto", tried("fp16", 0.96), ratios={})
    assert (name_of(result), verdicts(result)["fp16"]) == ("fp32", "refused")
    assert "accuracy 0.96, loses 2.04 %" in result.judged[1].reason
    assert "only 1 % allowed" in result.judged[1].reason
    assert result.reason == "fp32: nothing narrower was both accurate and faster here"


def test_of_the_int8_candidates_the_best_competes_and_the_others_say_what_beat_them() -> None:
    candidates = [tried("int8 entropy", 0.975), tried("int8 mse", 0.979, 20.0), tried("int8 max", 0.979, 25.0)]
    result = decision("int8", *candidates, tried("int8 percentile", 0.5), ratios={"int8 max": 2.0})
    assert name_of(result) == "int8 max"
    reasons = {one.name: one.reason for one in result.judged}
    assert reasons["int8 entropy"] == "int8 max scores better: accuracy 0.979 against 0.975"
    assert reasons["int8 mse"] == "int8 max is as good and nearer to float: SQNR 25.00 dB against 20.00"
    assert "only 1 % allowed" in reasons["int8 percentile"]


def test_an_accurate_mixed_one_beats_an_inaccurate_one_that_scores_the_same_or_less() -> None:
    result = decision("int8", tried("int8 max", 0.5), tried("int8 mixed", 0.975), ratios={"int8 mixed": 1.0})
    assert (name_of(result), verdicts(result)["int8 max"]) == ("int8 mixed", "refused")


@pytest.mark.parametrize("score", [math.nan, -math.inf])
def test_a_score_that_is_no_number_never_wins(score: float) -> None:
    rules = GateRules("int8", ACCURACY, 0.01, 0.05, publish_failed=False)
    best = best_int8([tried("int8 max", score), tried("int8 mse", 0.1)], rules)
    assert best is not None
    assert best.candidate.name == "int8 mse"


def test_the_first_int8_candidate_is_taken_where_nothing_was_measured() -> None:
    result = decision("int8", tried("int8 entropy", None), tried("int8 max", None), ratios={"int8 entropy": 1.0})
    assert name_of(result) == "int8 entropy"
    assert "not measured: no held-out data" in result.reason


def test_auto_without_held_out_data_stays_at_float() -> None:
    result = decision("auto", tried("fp16", None))
    assert name_of(result) == "fp32"
    assert "no held-out data" in result.judged[1].reason


def test_auto_goes_on_when_a_candidate_could_not_be_made() -> None:
    result = decision("auto", tried("fp16", problem="no such op"), tried("int8 max"), ratios={"int8 max": 0.5})
    assert (name_of(result), verdicts(result)["fp16"]) == ("int8 max", "unavailable")


def test_an_explicit_precision_is_published_however_slow_it_is() -> None:
    result = decision("int8", tried("int8 max"), ratios={"int8 max": 3.0})
    assert (name_of(result), result.is_forced) == ("int8 max", False)
    assert "latency 3.00 (2.98-3.02) of fp32's" in result.reason
    assert result.judged[-1].against == "fp32"


@pytest.mark.parametrize("accuracy", [0.96, math.nan, -math.inf])
def test_an_explicit_precision_that_fails_is_not_published_unless_told(accuracy: float) -> None:
    failed = tried("int8 max", accuracy)
    result = decision("int8", failed, ratios={"int8 max": 0.5})
    assert (name_of(result), verdicts(result)["int8 max"]) == (None, "refused")
    assert "int8 max: " in result.reason
    forced = decision("int8", failed, ratios={"int8 max": 0.5}, publish_failed=True)
    assert (name_of(forced), forced.is_forced, verdicts(forced)["int8 max"]) == ("int8 max", True, "forced")


def test_too_few_held_out_rows_are_told_with_the_number_that_it_takes() -> None:
    candidate = tried("int8 max")
    assert candidate.quality is not None
    unsure = Quality(candidate.quality.score, Loss(0.0, 0.0, 0.05, 60), candidate.quality.agreement)
    result = decision("int8", Tried(candidate.candidate, 100, quality=unsure), ratios={"int8 max": 1.0})
    (warning,) = result.warnings
    assert "too few held-out samples to be sure of int8 max: 60 rows" in warning
    assert "are needed" in warning
