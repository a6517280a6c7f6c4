"""Cosine, errors and agreement: their definitions, zeros, infinities and shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import DataError
from edge_runtime.evaluation.bootstrap import Resampling
from edge_runtime.evaluation.distance import Agreement, Cosine, LargestError, MeanSquaredError
from edge_runtime.tensors import bfloat16_from_float32

MEASURES = [Cosine, MeanSquaredError, LargestError]
RNG = np.random.default_rng(0)
GOT, WANT = (RNG.normal(size=(12, 6)) for _ in range(2))


def score_of(measure: Any, got: dict, want: dict, expected: dict | None = None):
    made = measure()
    made.add(got, Sample({}, None, expected), want)
    return made.score(Resampling())


def cosines(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    return (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)


def test_the_definitions():
    assert score_of(Cosine, {"y": GOT}, {"y": WANT}).value == pytest.approx(cosines(GOT, WANT).mean())
    mse = score_of(MeanSquaredError, {"y": GOT}, {"y": WANT})
    assert (mse.value, mse.magnitude) == (pytest.approx(((GOT - WANT) ** 2).mean()), pytest.approx((WANT**2).mean()))
    largest = score_of(LargestError, {"y": GOT}, {"y": WANT})
    assert (largest.value, largest.magnitude) == (np.abs(GOT - WANT).max(), np.abs(WANT).max())


@pytest.mark.parametrize(("measure", "best"), [(Cosine, 1.0), (MeanSquaredError, 0.0), (LargestError, 0.0)])
def test_equal_outputs_get_the_best_value(measure, best):
    assert score_of(measure, {"y": GOT}, {"y": GOT}).value == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_expected_outputs_come_before_the_reference(measure):
    score = score_of(measure, {"y": GOT, "z": GOT}, {"y": GOT, "z": GOT}, {"z": WANT})
    assert score == score_of(measure, {"z": GOT}, {"z": WANT})


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=4))
@pytest.mark.parametrize("measure", MEASURES)
def test_cutting_rows_into_samples_changes_nothing(measure, cuts):
    made = measure()
    for got, want in zip(np.split(GOT, np.cumsum(cuts).clip(max=12)), np.split(WANT, np.cumsum(cuts).clip(max=12))):
        made.add({"y": got, "column": got[:, :1]}, Sample({}), {"y": want, "column": want[:, :1]})
    score = made.score(Resampling())
    whole = score_of(measure, {"y": GOT, "column": GOT[:, :1]}, {"y": WANT, "column": WANT[:, :1]})
    assert (score.value, score.n, score.magnitude) == (pytest.approx(whole.value), 12, pytest.approx(whole.magnitude))


def test_outputs_are_averaged_and_the_largest_error_is_of_all():
    got, want = {"a": GOT, "b": WANT}, {"a": WANT, "b": WANT}
    assert score_of(Cosine, got, want).value == pytest.approx((cosines(GOT, WANT).mean() + 1) / 2)
    assert score_of(MeanSquaredError, got, want).value == pytest.approx(((GOT - WANT) ** 2).mean() / 2)
    assert score_of(LargestError, got, want).value == np.abs(GOT - WANT).max()


def test_rows_of_zeros_have_a_cosine():
    got = np.array([[0, 0], [0, 0], [1, 0]], np.float32)
    want = np.array([[0, 0], [1, 0], [0, 0]], np.float32)
    assert score_of(Cosine, {"y": got}, {"y": want}).value == pytest.approx(1 / 3)


def test_a_single_column_is_one_vector_not_a_sign_per_row():
    got, want = np.array([[1.0], [100.0]]), np.array([[100.0], [1.0]])
    assert score_of(Cosine, {"y": got}, {"y": want}).value == pytest.approx(200 / 10001)


@pytest.mark.parametrize("measure", [Cosine, MeanSquaredError])
def test_the_interval_holds_the_value_inside_the_metrics_range(measure):
    score = score_of(measure, {"y": GOT}, {"y": WANT})
    assert -1 <= score.low < score.value < score.high
    exact = score_of(measure, {"y": GOT}, {"y": GOT})
    assert exact.low <= exact.value <= exact.high
    assert score_of(measure, {"y": GOT[:1]}, {"y": WANT[:1]}).low is None


def test_equal_infinities_are_no_error_and_others_are():
    masked = np.array([[1.0, -np.inf], [2.0, -np.inf]], np.float32)
    assert score_of(LargestError, {"y": masked}, {"y": masked}).value == 0
    assert score_of(LargestError, {"y": masked}, {"y": np.ones((2, 2))}).value == math.inf
    assert not math.isfinite(score_of(Cosine, {"y": masked}, {"y": np.ones((2, 2))}).value)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_target_of_nan_gives_nan(measure):
    want = np.append(WANT[:-1], np.full((1, 6), np.nan), axis=0)
    assert math.isnan(score_of(measure, {"y": GOT}, {"y": want}).value)


@pytest.mark.parametrize("measure", MEASURES)
def test_integer_outputs_count_only_where_there_are_no_floats(measure):
    got, want = {"ids": np.array([[1, 2]]), "y": GOT}, {"ids": np.array([[3, 4]]), "y": GOT}
    assert score_of(measure, got, want) == score_of(measure, {"y": GOT}, {"y": GOT})
    assert score_of(measure, {"ids": got["ids"]}, {"ids": want["ids"]}).value not in (0.0, 1.0)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("got", "expected", "message"),
    [
        ({"y": GOT}, {"y": GOT[:3]}, r"'y' has shape \[12, 6\], its target \[3, 6\]"),
        ({"y": GOT}, {"y": GOT.T}, r"its target \[6, 12\]"),
        ({"logits": GOT}, {"logit": GOT}, "'logit' is none of the model's; did you mean 'logits'"),
        ({"y": np.array(["a"])}, {"y": np.ones(1)}, "expected numbers"),
        ({"y": np.zeros((0, 5))}, None, "no output could be compared"),
        ({"y": np.array(["a"])}, None, "no output could be compared"),
    ],
)
def test_what_cant_be_compared_is_refused(measure, got, expected, message):
    with pytest.raises(DataError, match=message):
        score_of(measure, got, got, expected)


def test_axes_of_size_1_dont_make_shapes_differ():
    assert score_of(LargestError, {"y": GOT[:, None]}, {}, {"y": GOT}).value == 0


def agreement(*pairs: tuple[dict, dict]):
    made = Agreement()
    for got, want in pairs:
        made.update(got, want)
    return made.result()


def test_agreement_is_over_all_samples_as_one_vector():
    result = agreement(({"y": GOT[:5]}, {"y": WANT[:5]}), ({"y": GOT[5:]}, {"y": WANT[5:]}))
    flat_got, flat_want = GOT.ravel().astype(float), WANT.ravel().astype(float)
    assert result.cosine == pytest.approx(flat_got @ flat_want / np.linalg.norm(flat_got) / np.linalg.norm(flat_want))
    ratio = (flat_want**2).sum() / ((flat_got - flat_want) ** 2).sum()
    assert result.sqnr_db == pytest.approx(10 * math.log10(ratio))


def test_agreement_is_the_worst_outputs():
    worst = agreement(({"a": GOT}, {"a": WANT}))
    assert agreement(({"a": GOT, "b": GOT}, {"a": WANT, "b": GOT})) == worst


def test_equal_outputs_agree_without_error():
    assert agreement(({"y": GOT}, {"y": GOT})).sqnr_db == math.inf
    assert agreement(({"y": np.zeros((2, 2))}, {"y": np.zeros((2, 2))})).cosine == 1.0
    assert agreement(({"y": GOT}, {"y": np.zeros_like(GOT)})).sqnr_db == -math.inf


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ({"y": GOT * np.nan, "z": GOT}, {"y": GOT, "z": GOT}),
        ({"y": GOT[:3]}, {"y": GOT}),
        ({"y": np.array(["a"])}, {"y": np.array(["a"])}),
    ],
    ids=["NaN", "shapes", "text"],
)
def test_agreement_is_nan_where_there_is_none_to_measure(got, want):
    result = agreement((got, want))
    assert math.isnan(result.cosine)
    assert math.isnan(result.sqnr_db)


def test_agreement_of_bfloat16_is_that_of_its_floats():
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    score = agreement(({"y": bfloat16_from_float32(value)}, {"y": value}))
    assert (score.cosine, score.sqnr_db) == (pytest.approx(1), math.inf)
