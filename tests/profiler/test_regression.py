"""Verdicts on made-up sessions: what the machine does and what the plan does are told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.profiler.baseline import Baseline, SessionRecord, session_of
from edge_runtime.profiler.quality import Quality
from edge_runtime.profiler.regression import Regression, compare
from edge_runtime.profiler.repeats import Repeat
from edge_runtime.profiler.settings import RegressionSettings

CONDITIONS = {"model": "m", "power_mode": "15W", "concurrency": 1, "threads": None}


def session(seed: int, slower: float = 1.0, busy: float = 0.0, taken: float = 0.0, calls: int = 125) -> SessionRecord:
    """Calls of 3 ms on a machine of which the yardstick takes 50 us; `busy` is the share of calls at two thirds of it.

    A neighbour costs the calls more than it costs the yardstick.
    """
    rng = np.random.default_rng(seed)
    repeats = []
    for _ in range(8):
        is_slow = np.arange(calls) < calls * busy
        durations = 3e6 * slower * np.where(is_slow, 1.7, 1.0) * np.exp(rng.normal(0, 0.03, calls))
        yardstick = 5e4 * np.where(is_slow, 1.5, 1.0) * np.exp(rng.normal(0, 0.02, calls))
        yardstick[: int(taken * calls)] = 0
        repeats.append(Repeat(tuple(map(int, durations)), int(durations.sum()), tuple(map(int, yardstick))))
    return session_of(repeats)


def baseline(*sessions: SessionRecord, **fields: Any) -> Baseline:
    given = {"conditions": CONDITIONS, "under_test": {"version": 1}, "noted": {}, "settings": {}, **fields}
    return Baseline(sessions=sessions, **given)


def judged(then: SessionRecord, now: SessionRecord, **limits: Any) -> Regression:
    return compare(baseline(then), baseline(now), RegressionSettings(**limits), (), "b.json")


def verdicts(found: Regression) -> list[str]:
    return [one.verdict for one in found.verdicts]


def test_the_same_again_passes() -> None:
    found = judged(session(0), session(1))
    assert verdicts(found) == ["passed", "inconclusive", "passed", "not compared"]
    assert (found.verdict, found.is_failed) == ("inconclusive", False)


def test_ten_percent_more_is_found_with_its_interval() -> None:
    found = judged(session(0), session(1, slower=1.1))
    p50, _, throughput, _ = found.verdicts
    assert (p50.verdict, throughput.verdict, found.is_failed) == ("regressed", "regressed", True)
    assert p50.low is not None
    assert p50.high is not None
    assert 1.05 < p50.low < 1.1 < p50.high < 1.15
    assert throughput.ratio == pytest.approx(1 / 1.1, rel=0.01)
    assert throughput.low is not None
    assert throughput.low < 1 / 1.1


@pytest.mark.parametrize(("then", "now"), [(1, 4), (4, 1)])
def test_one_caller_is_compared_with_several_where_that_is_allowed(then: int, now: int) -> None:
    sides = []
    for seed, concurrency in ((0, then), (1, now)):
        made = session(seed)
        if concurrency > 1:
            rows = [repeat.model_copy(update={"yardstick_ns": repeat.yardstick_ns[:40]}) for repeat in made.repeats]
            made = made.model_copy(update={"repeats": tuple(rows)})
        sides.append(baseline(made, conditions={**CONDITIONS, "concurrency": concurrency}))
    found = compare(sides[0], sides[1], RegressionSettings(), ("concurrency",), "b.json")
    assert "quiet_calls" not in found.machine
    assert [one.key for one in found.differences] == ["concurrency"]


def test_faster_passes() -> None:
    assert judged(session(0), session(1, slower=0.5)).verdict == "passed"


@pytest.mark.parametrize("busy", [0.5, 0.75])
def test_a_neighbour_is_no_regression(busy: float) -> None:
    found = judged(session(0), session(1, busy=busy))
    p50, _, throughput, _ = found.verdicts
    assert p50.verdict == "passed"
    assert p50.why == "of calls while the machine was quiet"
    assert throughput.verdict == "inconclusive"
    assert not found.is_failed


def test_a_regression_is_found_beside_a_neighbour() -> None:
    assert judged(session(0, busy=0.75), session(1, slower=1.1, busy=0.5)).verdicts[0].verdict == "regressed"


def test_where_it_is_never_quiet_calls_at_equal_pace_are_compared() -> None:
    found = judged(session(0, busy=0.875, calls=30), session(1, busy=0.875, slower=1.3, calls=30))
    assert found.verdicts[0].verdict == "regressed"
    assert "at equal pace" in found.verdicts[0].why


def test_where_the_machine_was_never_as_fast_nothing_is_said() -> None:
    found = judged(session(0), session(1, busy=1.0))
    assert found.verdicts[0].verdict == "inconclusive"
    assert "hardly ever as fast as then: 0 calls" in found.verdicts[0].why


def test_tail_and_throughput_of_calls_that_were_interrupted_are_the_neighbours() -> None:
    found = judged(session(0), session(1, taken=0.2))
    assert verdicts(found)[1:3] == ["inconclusive", "inconclusive"]
    assert "20.0% of the calls" in found.verdicts[2].why


def test_a_tail_of_a_hundredth_is_judged_only_where_almost_no_call_had_to_wait() -> None:
    found = judged(session(0), session(1, taken=0.01, slower=2.0))
    assert verdicts(found)[:3] == ["regressed", "inconclusive", "regressed"]


def test_a_narrow_miss_is_inconclusive_and_says_what_it_would_take() -> None:
    found = judged(session(0), session(1, slower=1.04))
    p50 = found.verdicts[0]
    assert p50.verdict == "inconclusive"
    assert p50.needed_n is None
    assert "more sessions" in p50.why
    assert judged(session(0), session(1, slower=1.04), strict=True).is_failed


def test_too_few_calls_have_no_p99() -> None:
    one = judged(session(0, calls=20), session(1, calls=20)).verdicts[1]
    assert (one.verdict, one.why, one.needed_n) == ("not compared", "n too small (160 of 662)", 662)


def test_limits_are_the_users() -> None:
    assert judged(session(0), session(1, slower=1.1), max_latency_pct=20).verdicts[0].verdict == "passed"
    assert judged(session(0), session(1, slower=1.1), max_throughput_drop_pct=20).verdicts[2].verdict == "passed"


def test_other_conditions_are_refused_by_name_with_a_remedy() -> None:
    now = baseline(session(1), conditions={**CONDITIONS, "power_mode": "7W"})
    with pytest.raises(ConfigError, match=r"power_mode: expected '15W', got '7W' \(set it back.*--allow power_mode"):
        compare(baseline(session(0)), now, RegressionSettings(), (), "b.json")
    found = compare(baseline(session(0)), now, RegressionSettings(), ("power_mode",), "b.json")
    assert [(one.key, one.kind) for one in found.differences] == [("power_mode", "allowed")]


@pytest.mark.parametrize(("then", "now"), [(None, 2), (2, None), (1, True), (1, 1.5)])
def test_unknown_is_unlike_known(then: Any, now: Any) -> None:
    sides = [baseline(session(0), conditions={**CONDITIONS, "threads": value}) for value in (then, now)]
    with pytest.raises(ConfigError, match="threads: expected"):
        compare(sides[0], sides[1], RegressionSettings(), (), "b.json")


def test_a_condition_that_there_is_not_cannot_be_allowed() -> None:
    with pytest.raises(ConfigError, match=r"--allow power_mod: .*did you mean 'power_mode'"):
        compare(baseline(session(0)), baseline(session(0)), RegressionSettings(), ("power_mod",), "b.json")


def test_what_is_under_test_may_differ_and_is_said() -> None:
    now = baseline(session(0), under_test={"version": 2}, plan_sha256=("ab",))
    found = compare(baseline(session(0)), now, RegressionSettings(), (), "b.json")
    assert [(one.key, one.baseline, one.now) for one in found.differences] == [("version", 1, 2), ("plan", "", "ab")]


def quality(value: float, better: str = "higher", **fields: Any) -> Quality:
    given = {"metric": "accuracy", "n": 512, "held_out": "x", "low": value - 0.005, "high": value + 0.005, **fields}
    return Quality(value=value, better=better, **given)


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        (quality(0.99), quality(0.99), "passed"),
        (quality(0.99), quality(0.98), "passed"),
        (quality(0.99), quality(0.965), "inconclusive"),
        (quality(0.99), quality(0.9), "regressed"),
        (quality(0.9), quality(0.99), "passed"),
        (quality(0.20, "lower"), quality(0.25, "lower"), "regressed"),
        (quality(0.20, "lower"), quality(0.10, "lower"), "passed"),
        (quality(0.02, "lower", magnitude=10.0), quality(0.04, "lower", magnitude=10.0), "passed"),
        (quality(0.99), quality(0.9, metric="cosine"), "not compared"),
        (quality(0.99), quality(0.9, held_out="y"), "not compared"),
        (quality(0.0), quality(0.0), "not compared"),
        (quality(0.99), None, "not compared"),
        (None, quality(0.99), "not compared"),
    ],
)
def test_quality_goes_by_the_metrics_own_direction(then: Quality, now: Quality, verdict: str) -> None:
    found = compare(
        baseline(session(0), quality=then), baseline(session(0), quality=now), RegressionSettings(), (), "b.json"
    )
    assert found.verdicts[3].verdict == verdict
