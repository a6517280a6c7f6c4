"""Metrics by name, what NaN does to them, and how much worse a candidate is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.evaluation.metrics import Loss, Metric, Score, metric_from_name
from edge_runtime.tensors import bfloat16_from_float32, float32_from_bfloat16

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


def loss(metric: Metric, outputs: list[dict]) -> float:
    return metric.loss(score_of(metric, FLOAT), score_of(metric, outputs))


@pytest.mark.parametrize("name", NAMES)
def test_the_float_models_own_outputs_lose_nothing(name):
    assert loss(metric_from_name(name), FLOAT) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_small_noise_passes_the_default_limit_and_large_noise_doesnt(name):
    metric = metric_from_name(name)
    assert loss(metric, noisy(0.001)) <= metric.default_limit < loss(metric, noisy(0.5))


@pytest.mark.parametrize("name", ["mse", "max-abs"])
def test_error_metrics_are_relative_to_the_targets_size(name):
    metric = metric_from_name(name)
    large = [{"y": 1000 * (out["y"])} for out in FLOAT]
    expected = [Sample({}, None, out) for out in large]
    scores = [
        score_of(metric, [{"y": 1000 * out["y"]} for out in outputs], expected) for outputs in (FLOAT, noisy(0.1))
    ]
    assert metric.loss(*scores) == pytest.approx(loss(metric, noisy(0.1)))


def test_mse_allows_an_error_20_db_below_the_signal():
    metric = metric_from_name("mse")
    just_under = [{"y": out["y"] * 1.099} for out in FLOAT]
    just_over = [{"y": out["y"] * 1.101} for out in FLOAT]
    assert loss(metric, just_under) < metric.default_limit < loss(metric, just_over)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["y", "other"])
@pytest.mark.parametrize("index", [0, 39])
def test_one_nan_in_any_output_fails_the_candidate(name, where, index):
    metric = metric_from_name(name)
    outputs = [{"y": out["y"].copy(), "other": np.zeros(1, np.float32)} for out in FLOAT]
    outputs[index][where].flat[0] = np.nan
    assert math.isnan(score_of(metric, outputs).value)
    assert loss(metric, outputs) == math.inf


@pytest.mark.parametrize("name", ["cosine", "mse", "max-abs"])
def test_infinity_fails_the_candidate(name):
    outputs = [{"y": out["y"].copy()} for out in FLOAT]
    outputs[3]["y"][0, 0] = np.inf
    assert loss(metric_from_name(name), outputs) == math.inf


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_of_nan_passes_nothing(name):
    metric = metric_from_name(name)
    assert metric.loss(Score(math.nan, None, None, 1), Score(1.0, None, None, 1)) == math.inf


@pytest.mark.parametrize(("value", "loss"), [(0.0, 0.0), (1e-6, math.inf), (math.nan, math.inf)])
def test_a_target_of_zeros_allows_no_error(value, loss):
    metric = metric_from_name("mse")
    assert metric.loss(Score(0.0, None, None, 1, 0.0), Score(value, None, None, 1, 0.0)) == loss


def test_a_better_candidate_loses_less_than_nothing():
    metric = metric_from_name("accuracy")
    assert metric.loss(Score(0.9, None, None, 10), Score(0.92, None, None, 10)) == pytest.approx(-2 / 90)


@pytest.mark.parametrize("name", ["accuracy", "cosine"])
@pytest.mark.parametrize(("candidate", "loss"), [(0.5, 0.0), (0.45, 0.1), (0.55, -0.1)])
def test_a_loss_is_a_share_of_the_float_models_score(name, candidate, loss):
    scores = (Score(value, None, None, 100) for value in (0.5, candidate))
    assert metric_from_name(name).loss(*scores) == pytest.approx(loss)


def compared(metric: Metric, outputs: list[dict], samples: list[Sample] | None = None) -> Loss:
    scorers = (metric.start(), metric.start())
    for scorer, given in zip(scorers, (FLOAT, outputs)):
        for output, sample, reference in zip(given, samples or [Sample({})] * len(given), FLOAT):
            scorer.update(output, sample, reference)
    return metric.compare(*scorers)


@pytest.mark.parametrize("name", ["cosine", "mse"])
@pytest.mark.parametrize("column", [slice(None), slice(1)], ids=["rows", "one column"])
def test_a_paired_interval_holds_the_loss(name, column):
    metric = metric_from_name(name)
    samples = [Sample({}, None, {"y": out["y"][:, column] * 1.1 + 0.1}) for out in FLOAT]
    scorers = (metric.start(), metric.start())
    for scorer, given in zip(scorers, (FLOAT, noisy(0.2))):
        for output, sample, reference in zip(given, samples, FLOAT):
            scorer.update({"y": output["y"][:, column]}, sample, {"y": reference["y"][:, column]})
    loss = metric.compare(*scorers)
    assert loss.value == metric.loss(*(scorer.result() for scorer in scorers))
    assert loss.low < loss.value < loss.high < loss.value + 0.2
    assert loss.n == 80


@pytest.mark.parametrize("name", ["cosine", "mse"])
def test_equal_answers_lose_nothing_for_sure(name):
    loss = compared(metric_from_name(name), FLOAT)
    assert (loss.value, loss.low, loss.high) == (pytest.approx(0, abs=1e-12),) * 3


def test_the_largest_error_has_no_interval():
    loss = compared(metric_from_name("max-abs"), noisy(0.01))
    assert (loss.low, loss.high, loss.n) == (None, None, 80)


@pytest.mark.parametrize("name", NAMES)
def test_nan_loses_everything(name):
    loss = compared(metric_from_name(name), [*FLOAT[1:], {"y": np.full((2, 5), np.nan)}])
    assert (loss.value, loss.low, loss.needed(0.01)) == (math.inf, None, None)


def paired_accuracy(both: int, lost: int, gained: int, neither: int, rows: int = 7) -> Loss:
    """Compares models that are both right so often, only the first, only the second, and neither."""
    metric = metric_from_name("accuracy")
    right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], (both, lost, gained, neither), axis=0)
    scorers = (metric.start(), metric.start())
    for scorer, classes in zip(scorers, right.T):
        for part in np.split(classes, range(rows, len(classes), rows)):
            scorer.update({"ids": part}, Sample({}, np.ones_like(part)), {"ids": part})
    return metric.compare(*scorers)


@pytest.mark.parametrize("neither", [0, 60])
def test_no_disagreement_leaves_a_loss_of_three_rows_possible(neither):
    loss = paired_accuracy(240, 0, 0, neither)
    assert (loss.value, loss.high, loss.n) == (0, 3 / 240, 240 + neither)
    assert loss.low == (-3 / 240 if neither else 0)
    assert loss.needed(0.01) == (375 if neither else 300)


@pytest.mark.parametrize("gained", [1, 2, 5])
def test_gains_alone_dont_rule_out_losses(gained):
    loss = paired_accuracy(50, 0, gained, 3)
    assert loss.value == pytest.approx(-gained / 50)
    assert loss.low < loss.value < loss.high == pytest.approx(max((3 - gained) / 50, loss.high))


def test_the_interval_of_accuracy_is_the_paired_one():
    loss = paired_accuracy(900, 30, 10, 60)
    spread = math.sqrt(40 / 1000 - 0.02**2) / math.sqrt(1000) / 0.93
    assert loss.value == pytest.approx(20 / 930)
    assert loss.high - loss.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert 1_000 < loss.needed(0.03) < 2_500


def test_a_model_that_is_never_right_cant_lose():
    loss = paired_accuracy(0, 0, 4, 6)
    assert (loss.value, loss.low, loss.high) == (0, None, None)


def test_millions_of_classes_are_compared_in_no_time_and_a_bit_each():
    metric = metric_from_name("accuracy")
    classes = np.random.default_rng(0).integers(0, 20, (2, 1024, 1024))
    scorers = (metric.start(), metric.start())
    for _ in range(4):
        scorers[0].update({"ids": classes}, Sample({}, classes), {"ids": classes})
        scorers[1].update({"ids": np.where(classes == 7, 8, classes)}, Sample({}, classes), {"ids": classes})
    loss = metric.compare(*scorers)
    assert loss.n == 4 * classes.size
    assert 0.04 < loss.low < loss.value < loss.high < 0.06
    assert len(scorers[0].measure._right) == loss.n // 8


@pytest.mark.parametrize("better", ["lower", "best"])
@pytest.mark.parametrize("name", NAMES)
def test_the_direction_of_a_metric_of_ours_is_fixed(name, better):
    with pytest.raises(ConfigError, match=f"metric '{name}'.*{better}"):
        metric_from_name(name, better=better)


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
    assert (score.value, score.low, score.high, score.n) == (40.0, 40.0, 40.0, 40)
    assert metric.higher_is_better


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
    assert metric.loss(Score(1.0, None, None, 1), score_of(metric, FLOAT)) == math.inf


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_scored_as_the_floats_that_it_is(name):
    metric, rounded = metric_from_name(name), [bfloat16_from_float32(out["y"]) for out in FLOAT]
    floats = [{"y": float32_from_bfloat16(values)} for values in rounded]
    assert score_of(metric, [{"y": values} for values in rounded]) == score_of(metric, floats)


def test_a_bfloat16_that_is_no_number_makes_the_score_none():
    outputs = [{"y": bfloat16_from_float32(np.full((2, 5), np.nan, np.float32))}]
    assert math.isnan(score_of(metric_from_name("cosine"), outputs).value)


def test_strings_are_no_numbers_to_compare():
    scorer, names = metric_from_name("cosine").start(), {"y": np.array([b"a"], object)}
    scorer.update(names, Sample({}), names)
    with pytest.raises(DataError, match="metric accuracy, which compares strings"):
        scorer.result()
