"""Scores by a user's function: pairing, the budget, and functions that fail on a resample."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.calibration.sample import Sample
from edge_runtime.evaluation.bootstrap import Resampling
from edge_runtime.evaluation.metrics import Metric, Scorer, metric_from_name

COUNT = 40
MEAN = "return float(np.mean([o['y'][0] for o in outputs]))"


@pytest.fixture
def make_metric(tmp_path):
    def make(body: str = MEAN, better: str = "higher") -> Metric:
        head = "import numpy as np\nCALLS = []\ndef score(outputs, samples):\n    CALLS.append(len(outputs))\n"
        (tmp_path / "mine.py").write_text(f"{head}    {body}\n")
        return metric_from_name("mine:score", folder=tmp_path, better=better)

    return make


def scored(metric: Metric, values) -> Scorer:
    scorer = metric.start()
    for index, value in enumerate(values):
        outputs = {"y": np.array([value])}
        scorer.update(outputs, Sample({}, np.array([index])), outputs)
    return scorer


def calls(scorer: Scorer) -> list[int]:
    return scorer.measure._function.__globals__["CALLS"]


VALUES = np.random.default_rng(0).normal(10, 1, COUNT)


def test_the_interval_is_the_means_and_of_a_loss_that_of_the_pairs(make_metric):
    metric = make_metric()
    baseline, candidate = scored(metric, VALUES), scored(metric, VALUES * 0.98)
    score = baseline.result()
    assert score.high - score.low == pytest.approx(2 * 1.96 * VALUES.std() / COUNT**0.5, rel=0.3)
    loss = metric.compare(baseline, candidate)
    assert (loss.value, loss.low, loss.high) == tuple(pytest.approx(0.02) for _ in range(3))
    assert (loss.n, loss.needed(0.05)) == (COUNT, None)


def test_a_resample_is_scored_once_for_each_model(make_metric):
    metric = make_metric()
    baseline, candidate = scored(metric, VALUES), scored(metric, VALUES)
    for _ in range(2):
        metric.compare(baseline, candidate)
    assert calls(candidate) == [COUNT] * (200 + 1)


def test_samples_stay_with_their_outputs(make_metric):
    body = "assert all(o['y'][0] == s.label[0] for o, s in zip(outputs, samples)); return 1.0"
    metric = make_metric(body)
    score = scored(metric, np.arange(COUNT)).result()
    assert (score.low, score.high) == (1.0, 1.0)


def test_an_error_rate_loses_when_it_rises(make_metric):
    metric = make_metric(better="lower")
    baseline, better, worse = (scored(metric, VALUES * factor) for factor in (1, 0.9, 1.1))
    assert metric.compare(baseline, worse).value == pytest.approx(0.1)
    assert metric.compare(baseline, better).high < 0


@pytest.mark.parametrize(
    "body",
    [
        "return 1.0 if len({s.label[0] for s in samples}) == 40 else 1 / 0",
        "return 1.0 if len({s.label[0] for s in samples}) == 40 else float('nan')",
    ],
    ids=["raises", "NaN"],
)
def test_a_function_that_fails_on_a_resample_has_a_score_without_an_interval(make_metric, body):
    metric = make_metric(body)
    score = scored(metric, VALUES).result()
    assert (score.value, score.low, score.high) == (1.0, None, None)
    loss = metric.compare(scored(metric, VALUES), scored(metric, VALUES))
    assert (loss.value, loss.low, loss.high) == (0.0, None, None)


def test_a_slow_function_isnt_called_again_and_again(make_metric):
    metric = make_metric()
    ticks = iter(range(0, 10**15, 10**9))
    scorer = scored(metric, VALUES)
    assert scorer.result(Resampling(clock=lambda: next(ticks))).low is None
    assert len(calls(scorer)) == 2


def test_one_sample_has_no_interval(make_metric):
    metric = make_metric()
    loss = metric.compare(scored(metric, [1.0]), scored(metric, [1.0]))
    assert (loss.value, loss.low, loss.needed(0.01)) == (0.0, None, 30)
