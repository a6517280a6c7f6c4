"""Which metric a recipe names, and how much worse than the float model a score is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError, DataError, nearest
from edge_runtime.evaluation.accuracy import Accuracy
from edge_runtime.evaluation.bootstrap import Resampling
from edge_runtime.evaluation.distance import Agreement, AgreementScore, Cosine, LargestError, MeanSquaredError
from edge_runtime.evaluation.function_measure import FunctionMeasure
from edge_runtime.evaluation.loss import Loss, relative_losses
from edge_runtime.evaluation.score import Array, LabelledSample, Measure, Outputs, Score, comparable
from edge_runtime.evaluation.user_function import UserFunction

__all__ = ["Agreement", "AgreementScore", "LabelledSample", "Loss", "Metric", "Score", "Scorer", "metric_from_name"]


@dataclass(frozen=True)
class Metric:
    """A way to score models.

    `default_limit` bounds `loss`: 0.01, but 0.1 (of the target's largest |value|) for max-abs.
    """

    name: str
    higher_is_better: bool
    default_limit: float
    measure: Callable[[], Measure]

    def start(self) -> Scorer:
        """A fresh scorer, for one model."""
        return Scorer(self.name, self.measure())

    def loss(self, baseline: Score, candidate: Score) -> float:
        """How much worse `candidate` is than the float model's `baseline`, as a share of |baseline|.

        For mse the share is of the target's mean square (0.01: the error stays 20 dB below it), for max-abs of the
        target's largest |value|. 0 is as good, less is better; infinite for anything worse than a baseline of 0, and
        if either score isn't a finite number, so that no limit passes it.
        """
        magnitude = abs(baseline.value) if candidate.magnitude is None else candidate.magnitude
        return float(self._losses(baseline.value, candidate.value, magnitude))

    def compare(self, baseline: Scorer, candidate: Scorer, resampling: Resampling | None = None) -> Loss:
        """The loss of one scorer against another that was given the same samples, with its 95 % interval.

        The interval is the paired percentile bootstrap's over rows, or over samples for a user's function; none for
        max-abs, for a single row, and where the function fails on a resample or is too slow for the budget.

        Raises:
            DataError: there was nothing to score, or the user's function failed.
        """
        draws = resampling or Resampling()
        before, after = baseline.result(draws), candidate.result(draws)
        value = self.loss(before, after)
        if not math.isfinite(value):
            return Loss(value, None, None, after.n)
        return baseline.measure.compare(candidate.measure, value, self._losses, draws)

    def _losses(self, baseline: npt.ArrayLike, candidate: npt.ArrayLike, magnitude: npt.ArrayLike) -> Array:
        return relative_losses(baseline, candidate, magnitude, self.higher_is_better)


class Scorer:
    """A metric at work on one model: give it every held-out sample, then ask for the result.

    It keeps 8 bytes a row and output (24 for mse and for outputs of one column; a bit a class for accuracy; nothing
    for max-abs; all outputs and samples for a user's function).
    """

    def __init__(self, name: str, measure: Measure) -> None:
        self.measure = measure
        self._name = name
        self._samples = 0
        self._has_nan = False
        self._scores: Dict[Resampling, Score] = {}

    def update(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Takes the model's outputs for one sample; `reference` are the float model's.

        Raises:
            DataError: the outputs can't be compared with the sample or the reference.
        """
        outputs, reference = comparable(outputs), comparable(reference)
        self._has_nan = self._has_nan or _has_nan(outputs)
        if not self._has_nan:
            self.measure.add(outputs, sample, reference)
        self._samples += 1
        self._scores.clear()

    def result(self, resampling: Resampling | None = None) -> Score:
        """The score of all samples; NaN if any output was, whatever the metric looks at.

        Raises:
            DataError: there was nothing to score, or the user's function failed.
        """
        if not self._samples:
            raise DataError(f"metric {self._name!r}: no held-out sample was given; expected at least one")
        if self._has_nan:
            return Score(math.nan, None, None, self._samples)
        draws = resampling or Resampling()
        if draws not in self._scores:
            self._scores[draws] = self.measure.score(draws)
        return self._scores[draws]


def metric_from_name(
    name: str, output: str | None = None, folder: Path | None = None, better: str = "higher"
) -> Metric:
    """The metric that a recipe names: accuracy, cosine, mse, max-abs, or `module:function` (a file in `folder`).

    accuracy: share of classes that equal `label`, else the classes of `expected`, else the reference's. A class is the
      argmax of the last axis (axes of size 1 behind the classes don't count) of `output`, by default the first float
      one; integers are class ids themselves.
    cosine: mean of the cosine between rows of an output and of its target; 1 between two rows of zeros, 0 if one is.
      An output of one column is one vector over all rows.
    mse: mean over rows of the mean squared error. max-abs: largest |error|.
      These three take the outputs that `expected` names, else the reference's float outputs, and average over them.
    module:function: `f(outputs: list[dict], samples: list) -> float`, of which `better` says whether higher or lower
      (an error rate) is better. It sees all samples at once, and is called again on samples drawn with replacement.

    Raises:
        ConfigError: no metric has that name, or `better` is wrong for it.
    """
    if better not in ("higher", "lower"):
        raise ConfigError(f"metric {name!r}: better is {better!r}, expected 'higher' or 'lower'")
    if ":" in name:
        function = UserFunction(name, folder or Path())
        return Metric(name, better == "higher", 0.01, lambda: FunctionMeasure(function))
    known: Dict[str, Metric] = {
        "accuracy": Metric("accuracy", True, 0.01, lambda: Accuracy(output)),
        "cosine": Metric("cosine", True, 0.01, Cosine),
        "mse": Metric("mse", False, 0.01, MeanSquaredError),
        "max-abs": Metric("max-abs", False, 0.1, LargestError),
    }
    if name not in known:
        raise ConfigError(f"metric {name!r} is unknown; {nearest(name, [*known, 'module:function'])}")
    if better == "lower":
        raise ConfigError(
            f"metric {name!r} has its own direction; better = 'lower' is for module:function: leave it out"
        )
    return known[name]


def _has_nan(outputs: Outputs) -> bool:
    return any(array.dtype.kind == "f" and bool(np.isnan(array).any()) for array in outputs.values())
