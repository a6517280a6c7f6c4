"""Metrics by name, what NaN does to them, and how much worse a candidate is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.evaluation.metrics import Metric, Score, metric_from_name

NAMES = ["accuracy", "cosine", "mse", "max-abs"]
RNG = np.random.default_rng(0)
FLOAT = [{"y": RNG.normal(size=(2, 5)).astype(np.float32)} for _ in range(40)]


def score_of(metric: Metric, outputs: list[dict], samples: list[Sample] | None = None) -> Score:
    scorer = metric.start()
    for output, sample, reference in zip(outputs, samples or [Sample({})] * len(outputs), FLOAT):
        scorer.update(output, sample, reference)
    return scorer.result()


def noisy(relative: float) -> list[dict]:
    rng = np.random.default_rng(1)
    return [{"y": out["y"] + relative * rng.normal(size=out["y"].shape)} for out in FLOAT]


def degradation(metric: Metric, outputs: list[dict]) -> float:
    return metric.degradation(score_of(metric, FLOAT), score_of(metric, outputs))


@pytest.mark.parametrize("name", NAMES)
def test_the_float_models_own_outputs_lose_nothing(name):
    assert degradation(metric_from_name(name), FLOAT) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_small_noise_passes_the_default_limit_and_large_noise_doesnt(name):
    metric = metric_from_name(name)
    assert degradation(metric, noisy(0.001)) <= metric.default_limit < degradation(metric, noisy(0.5))


@pytest.mark.parametrize("name", ["mse", "max-abs"])
def test_error_metrics_are_relative_to_the_targets_size(name):
    metric = metric_from_name(name)
    large = [{"y": 1000 * (out["y"])} for out in FLOAT]
    expected = [Sample({}, None, out) for out in large]
    scores = [
        score_of(metric, [{"y": 1000 * out["y"]} for out in outputs], expected) for outputs in (FLOAT, noisy(0.1))
    ]
    assert metric.degradation(*scores) == pytest.approx(degradation(metric, noisy(0.1)))


def test_mse_allows_an_error_20_db_below_the_signal():
    metric = metric_from_name("mse")
    just_under = [{"y": out["y"] * 1.099} for out in FLOAT]
    just_over = [{"y": out["y"] * 1.101} for out in FLOAT]
    assert degradation(metric, just_under) < metric.default_limit < degradation(metric, just_over)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["y", "other"])
@pytest.mark.parametrize("index", [0, 39])
def test_one_nan_in_any_output_fails_the_candidate(name, where, index):
    metric = metric_from_name(name)
    outputs = [{"y": out["y"].copy(), "other": np.zeros(1, np.float32)} for out in FLOAT]
    outputs[index][where].flat[0] = np.nan
    assert math.isnan(score_of(metric, outputs).value)
    assert degradation(metric, outputs) == math.inf


@pytest.mark.parametrize("name", ["cosine", "mse", "max-abs"])
def test_infinity_fails_the_candidate(name):
    outputs = [{"y": out["y"].copy()} for out in FLOAT]
    outputs[3]["y"][0, 0] = np.inf
    assert degradation(metric_from_name(name), outputs) == math.inf


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_of_nan_passes_nothing(name):
    metric = metric_from_name(name)
    assert metric.degradation(Score(math.nan, None, None, 1), Score(1.0, None, None, 1)) == math.inf


@pytest.mark.parametrize(("value", "loss"), [(0.0, 0.0), (1e-6, math.inf), (math.nan, math.inf)])
def test_a_target_of_zeros_allows_no_error(value, loss):
    metric = metric_from_name("mse")
    assert metric.degradation(Score(0.0, None, None, 1, 0.0), Score(value, None, None, 1, 0.0)) == loss


def test_a_better_candidate_loses_less_than_nothing():
    metric = metric_from_name("accuracy")
    assert metric.degradation(Score(0.9, None, None, 10), Score(0.92, None, None, 10)) == pytest.approx(-0.02)


@pytest.mark.parametrize("name", ["acuracy", "", "f1"])
def test_an_unknown_metric_names_the_nearest(name):
    with pytest.raises(ConfigError, match=r"did you mean 'accuracy'|valid: accuracy, cosine, max-abs, module:function"):
        metric_from_name(name)


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_is_an_error(name):
    with pytest.raises(DataError, match="no held-out sample"):
        metric_from_name(name).start().result()


def user_metric(folder, body: str) -> Metric:
    (folder / "mine.py").write_text(f"def score(outputs, samples):\n    {body}\n")
    return metric_from_name("mine:score", folder=folder)


def test_a_users_function_sees_all_outputs_and_samples(tmp_path):
    metric = user_metric(tmp_path, "return sum(float(o['y'][0, 0] == s.label[0]) for o, s in zip(outputs, samples))")
    samples = [Sample({}, out["y"][0, :1]) for out in FLOAT]
    score = score_of(metric, FLOAT, samples)
    assert (score.value, score.low, score.n, metric.higher_is_better) == (40.0, None, 40, True)


def test_outputs_are_copied_for_a_users_function(tmp_path):
    scorer = user_metric(tmp_path, "return float(outputs[0]['y'][0])").start()
    slot = np.ones(1, np.float32)
    scorer.update({"y": slot}, Sample({}), {"y": slot})
    slot[:] = 5
    assert scorer.result().value == 1.0


@pytest.mark.parametrize(
    ("body", "message"),
    [("return 1 / 0", "ZeroDivisionError"), ("return 'high'", "ValueError"), ("return None", "TypeError")],
)
def test_a_users_function_that_fails_is_named(tmp_path, body, message):
    with pytest.raises(DataError, match=f"'mine:score' failed: {message}"):
        score_of(user_metric(tmp_path, body), FLOAT)


def test_a_users_function_cant_pass_nan(tmp_path):
    metric = user_metric(tmp_path, "return float('nan')")
    assert metric.degradation(Score(1.0, None, None, 1), score_of(metric, FLOAT)) == math.inf
