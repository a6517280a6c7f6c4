"""Which metric a recipe names, and how much worse than the float model a score is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np

from edge_runtime.errors import ConfigError, DataError, nearest
from edge_runtime.evaluation.accuracy import Accuracy
from edge_runtime.evaluation.distance import Agreement, AgreementScore, Cosine, LargestError, MeanSquaredError
from edge_runtime.evaluation.score import Array, LabelledSample, Measure, Outputs, Score
from edge_runtime.evaluation.user_function import UserFunction

__all__ = ["Agreement", "AgreementScore", "LabelledSample", "Metric", "Score", "Scorer", "metric_from_name"]


@dataclass(frozen=True)
class Metric:
    """A way to score models.

    `default_limit` bounds `degradation`: 0.01 (absolute) for accuracy, cosine and functions; 0.01 of the target's mean
    square for mse (so the error stays 20 dB below the signal); 0.1 of the target's largest |value| for max-abs.
    """

    name: str
    higher_is_better: bool
    default_limit: float
    measure: Callable[[], Measure]

    def start(self) -> Scorer:
        """A fresh scorer, for one model."""
        return Scorer(self.name, self.measure())

    def degradation(self, baseline: Score, candidate: Score) -> float:
        """How much worse `candidate` is than the float model's `baseline`, in the unit of `default_limit`.

        0 is as good, less is better; infinite if either score isn't a finite number, so that no limit passes it.
        """
        worse = baseline.value - candidate.value if self.higher_is_better else candidate.value - baseline.value
        if not math.isfinite(worse):
            return math.inf
        if candidate.magnitude == 0:
            return math.inf if worse > 0 else 0.0
        relative = worse / candidate.magnitude
        return relative if math.isfinite(relative) else math.inf


class Scorer:
    """A metric at work on one model: give it every held-out sample, then ask for the result."""

    def __init__(self, name: str, measure: Measure) -> None:
        self._name = name
        self._measure = measure
        self._samples = 0
        self._has_nan = False

    def update(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Takes the model's outputs for one sample; `reference` are the float model's.

        Raises:
            DataError: the outputs can't be compared with the sample or the reference.
        """
        self._has_nan = self._has_nan or _has_nan(outputs)
        if not self._has_nan:
            self._measure.add(outputs, sample, reference)
        self._samples += 1

    def result(self) -> Score:
        """The score of all samples; NaN if any output was, whatever the metric looks at.

        Raises:
            DataError: there was nothing to score, or the user's function failed.
        """
        if not self._samples:
            raise DataError(f"metric {self._name!r}: no held-out sample was given; expected at least one")
        return Score(math.nan, None, None, self._samples) if self._has_nan else self._measure.score()


def metric_from_name(name: str, output: str | None = None, folder: Path | None = None) -> Metric:
    """The metric that a recipe names: accuracy, cosine, mse, max-abs, or `module:function` (a file in `folder`).

    accuracy: share of classes that equal `label`, else the classes of `expected`, else the reference's. A class is the
      argmax of the last axis (axes of size 1 behind the classes don't count) of `output`, by default the first float
      one; integers are class ids themselves.
    cosine: mean of the cosine between rows of an output and of its target; 1 between two rows of zeros, 0 if one is.
      An output of one column is one vector over all rows.
    mse: mean over rows of the mean squared error. max-abs: largest |error|.
      These three take the outputs that `expected` names, else the reference's float outputs, and average over them.
    module:function: `f(outputs: list[dict], samples: list) -> float`, higher is better; it sees all samples at once.

    Raises:
        ConfigError: no metric has that name.
    """
    if ":" in name:
        function = UserFunction(name, folder or Path())
        return Metric(name, True, 0.01, lambda: _FunctionMeasure(function))
    known: Dict[str, Metric] = {
        "accuracy": Metric("accuracy", True, 0.01, lambda: Accuracy(output)),
        "cosine": Metric("cosine", True, 0.01, Cosine),
        "mse": Metric("mse", False, 0.01, MeanSquaredError),
        "max-abs": Metric("max-abs", False, 0.1, LargestError),
    }
    if name not in known:
        raise ConfigError(f"metric {name!r} is unknown; {nearest(name, [*known, 'module:function'])}")
    return known[name]


class _FunctionMeasure:
    """A user's function over all outputs and samples, which it keeps."""

    def __init__(self, function: UserFunction) -> None:
        self._function = function
        self._outputs: List[Dict[str, Array]] = []
        self._samples: List[LabelledSample] = []

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:  # noqa: ARG002
        self._outputs.append({name: np.array(array) for name, array in outputs.items()})
        self._samples.append(sample)

    def score(self) -> Score:
        function = self._function.load()
        with self._function.guarded():
            value = float(function(self._outputs, self._samples))
        return Score(value, None, None, len(self._samples))


def _has_nan(outputs: Outputs) -> bool:
    return any(array.dtype.kind == "f" and bool(np.isnan(array).any()) for array in outputs.values())
