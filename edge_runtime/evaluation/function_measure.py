"""A score by a function of the user's."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.evaluation.bootstrap import Resampling, percentile_interval
from edge_runtime.evaluation.loss import Loss, Losses
from edge_runtime.evaluation.score import Array, LabelledSample, Outputs, Score
from edge_runtime.evaluation.user_function import UserFunction


class FunctionMeasure:
    """A user's function over all outputs and samples, which it keeps."""

    def __init__(self, function: UserFunction) -> None:
        self._user = function
        self._function: Callable[..., Any] | None = None
        self._outputs: List[Dict[str, Array]] = []
        self._samples: List[LabelledSample] = []
        self._resampled: Dict[Tuple[int, int], float] = {}

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:  # noqa: ARG002
        """Keeps a copy of one sample's outputs, read-only: the function sees it again for the interval."""
        copies = {name: np.array(array) for name, array in outputs.items()}
        for copy in copies.values():
            copy.setflags(write=False)
        self._outputs.append(copies)
        self._samples.append(sample)

    def score(self, resampling: Resampling) -> Score:
        """What the function says of all samples, with a bootstrap interval over them.

        Raises:
            DataError: it failed.
        """
        value = self._value(range(len(self._samples)))
        drawn = self._drawn([self], resampling)[0] if math.isfinite(value) else []
        return Score(value, *percentile_interval(drawn), len(self._samples))

    def compare(self, candidate: Any, value: float, losses: Losses, resampling: Resampling) -> Loss:
        """The loss, by a bootstrap of the samples of both."""
        baseline, scores = self._drawn([self, candidate], resampling)
        return Loss(value, *percentile_interval(losses(baseline, scores, np.abs(baseline))), len(self._samples))

    @staticmethod
    def _drawn(measures: Sequence[FunctionMeasure], resampling: Resampling) -> List[List[float]]:
        """The value of each measure on the same resamples, as many as the budget allows; none if the function fails."""
        drawn: List[List[float]] = [[] for _ in measures]
        if len(measures[0]._samples) < 2:
            return drawn
        for number in resampling.affordable():
            try:
                values = [measure._resample(number, resampling.seed) for measure in measures]
            except DataError:
                return [[] for _ in measures]
            for column, value in zip(drawn, values):
                column.append(value)
        return drawn

    def _resample(self, number: int, seed: int) -> float:
        key = (seed, number)
        if key not in self._resampled:
            count = len(self._samples)
            picks = np.random.default_rng(key).integers(count, size=count)
            self._resampled[key] = self._value(picks.tolist())
        return self._resampled[key]

    def _value(self, picks: Sequence[int]) -> float:
        self._function = self._function or self._user.load()
        with self._user.guarded():
            return float(self._function([self._outputs[i] for i in picks], [self._samples[i] for i in picks]))
