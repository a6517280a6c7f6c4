"""Which classes count as right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import DataError
from edge_runtime.evaluation.accuracy import Accuracy
from edge_runtime.evaluation.bootstrap import Resampling
from edge_runtime.evaluation.intervals import wilson_interval


def one_hot(*classes: int, count: int = 4) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[list(classes)]


def score_of(outputs: dict, label: Any = None, expected: Any = None, reference: Any = None, output: str | None = None):
    accuracy = Accuracy(output)
    label = None if label is None else np.array(label)
    accuracy.add(outputs, Sample({}, label, expected), outputs if reference is None else reference)
    return accuracy.score(Resampling())


def test_labels_come_first_then_expected_then_the_reference():
    outputs = {"y": one_hot(0, 1, 2, 3)}
    expected, reference = {"y": one_hot(0, 1, 0, 0)}, {"y": one_hot(0, 0, 0, 0)}
    assert score_of(outputs, [0, 1, 2, 0], expected, reference).value == 0.75
    assert score_of(outputs, None, expected, reference).value == 0.5
    assert score_of(outputs, None, None, reference).value == 0.25


def test_the_interval_is_wilsons_over_all_rows():
    score = score_of({"y": one_hot(*[1] * 9, 0)}, [1] * 10)
    assert (score.value, score.n) == (0.9, 10)
    assert (score.low, score.high) == wilson_interval(9, 10)


@pytest.mark.parametrize(
    ("output", "label"),
    [
        (one_hot(2), [2]),
        (one_hot(2), [[2]]),
        (one_hot(2)[0], [2]),
        (one_hot(1, 2).reshape(2, 4, 1, 1), [1, 2]),
        (one_hot(0, 1, 2, 3, 0, 1).reshape(2, 3, 4), [[0, 1, 2], [3, 0, 1]]),
        (np.array([3, 1]), [3, 1]),
        (np.array([[3], [1]], np.int32), [3, 1]),
    ],
    ids=["[1,C]", "[1,1] label", "[C]", "[N,C,1,1]", "[N,T,C]", "ids", "[N,1] ids"],
)
def test_shapes_of_class_scores_and_ids(output, label):
    score = score_of({"y": output}, label)
    assert (score.value, score.n) == (1.0, np.size(label))
    assert score_of({"y": output}, (np.array(label) + 1) % 4).value == 0.0


def test_the_first_float_output_is_looked_at_unless_another_is_named():
    outputs = {"ids": np.array([9]), "a": one_hot(1), "b": one_hot(2)}
    assert score_of(outputs, [1]).value == 1.0
    assert score_of(outputs, [2], output="b").value == 1.0
    assert score_of(outputs, [9], output="ids").value == 1.0
    assert score_of(outputs, None, {"b": one_hot(3)}).value == 0.0


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        ({"y": np.zeros((3, 1), np.float32)}, {}, "one score doesn't say a class; .* use metric cosine"),
        ({"y": np.float32(1).reshape(())}, {}, "one score doesn't say a class"),
        ({"y": np.array(["a"])}, {}, "no output of numbers"),
        ({"y": np.array([True])}, {"output": "y"}, "type bool, expected class scores"),
        ({"scores": one_hot(1)}, {"output": "score"}, "output 'score' is none of the model's; did you mean 'scores'"),
        ({"y": one_hot(1)}, {"expected": {"z": one_hot(1)}}, "output 'z' is none of the model's"),
        ({"y": one_hot(1, 2)}, {"label": [1, 2, 3]}, r"classes of shape \[2\], the target \[3\]"),
        ({"y": one_hot(1, 2)}, {"expected": {"y": one_hot(1)}}, r"classes of shape \[2\], the target \[1\]"),
        ({"y": one_hot(1)}, {"label": [4]}, "class ids from 4 to 4, expected 0 to 3"),
        ({"y": one_hot(1)}, {"label": [-1]}, "class ids from -1"),
        ({"y": np.zeros((0, 4), np.float32)}, {}, "at least one held-out row"),
    ],
)
def test_what_has_no_class_is_refused(outputs, options, message):
    with pytest.raises(DataError, match=message):
        score_of(outputs, **options)


def test_equal_strings_are_right():
    outputs, reference = ({"y": np.array(names, object)} for names in ([b"a", b"b", b""], [b"a", b"c", b""]))
    assert score_of(outputs, reference=reference).value == pytest.approx(2 / 3)


def test_numbers_come_before_strings():
    names = np.array([b"a", b"b"], object)
    assert score_of({"name": names, "y": one_hot(0, 1)}, [0, 0]).value == 0.5


def test_class_ids_are_no_names():
    with pytest.raises(DataError, match="the output is of strings"):
        score_of({"y": np.array([b"a"], object)}, [0])
