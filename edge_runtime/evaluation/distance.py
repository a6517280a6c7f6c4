"""How far outputs are from their targets: cosine, errors, and agreement with the float model."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DataError, nearest
from edge_runtime.evaluation.bootstrap import Resampling, percentile_interval, resampled_means
from edge_runtime.evaluation.loss import Loss, Losses
from edge_runtime.evaluation.score import Array, LabelledSample, Outputs, Score, comparable

_Rows = npt.NDArray[np.float64]


class _RowMeasure(abc.ABC):
    """A metric made of the means of some figures of every row, which it keeps: 8 bytes each, by output."""

    def __init__(self) -> None:
        self._figures: Dict[Tuple[str, int], bytearray] = {}

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Compares one sample.

        Raises:
            DataError: the outputs can't be compared.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            for name, got, want in _compared(outputs, sample.expected or _targets(reference)):
                floats = np.asarray(reference.get(name, want), np.float64).reshape(len(want), -1)
                figures = np.column_stack(self._row_figures(got, want, floats))
                self._figures.setdefault((name, figures.shape[1]), bytearray()).extend(figures.tobytes())

    def score(self, resampling: Resampling) -> Score:
        """The score, with a bootstrap interval over rows.

        Raises:
            DataError: nothing was compared.
        """
        tables = self._tables()
        if not tables:
            raise _nothing_compared()
        n = max(map(len, tables))
        with np.errstate(over="ignore", invalid="ignore"):
            value, magnitude = self._scored([table.mean(axis=0) for table in tables])
        low, high = None, None
        if n > 1 and np.isfinite(value):
            low, high = percentile_interval(self._scored(resampled_means(tables, resampling))[0])
        return Score(float(value), low, high, n, None if magnitude is None else float(magnitude))

    def compare(self, candidate: Any, value: float, losses: Losses, resampling: Resampling) -> Loss:
        """The loss, by a bootstrap of the rows of both."""
        ours, theirs = self._tables(), candidate._tables()
        n = max(map(len, ours))
        if n < 2 or [table.shape for table in ours] != [table.shape for table in theirs]:
            return Loss(value, None, None, n)
        drawn = resampled_means([*ours, *theirs], resampling)
        baseline, _ = self._scored(drawn[: len(ours)])
        scores, magnitude = self._scored(drawn[len(ours) :])
        drawn_losses = losses(baseline, scores, np.abs(baseline) if magnitude is None else magnitude)
        return Loss(value, *percentile_interval(drawn_losses), n)

    def _tables(self) -> List[_Rows]:
        figures = sorted(self._figures.items())
        return [np.frombuffer(bytes(values)).reshape(-1, width) for (_, width), values in figures]

    @abc.abstractmethod
    def _row_figures(self, got: _Rows, want: _Rows, floats: _Rows) -> Sequence[_Rows]:
        """The figures of every row of one output."""

    @abc.abstractmethod
    def _scored(self, means: Sequence[_Rows]) -> Tuple[_Rows, _Rows | None]:
        """Scores and magnitudes from the means of every output's figures, which are in the last axis."""


class Cosine(_RowMeasure):
    """The mean over rows of the cosine of output and target, averaged over outputs."""

    def _row_figures(self, got: _Rows, want: _Rows, floats: _Rows) -> Sequence[_Rows]:  # noqa: ARG002
        figures = ((got * want).sum(axis=1), np.square(got).sum(axis=1), np.square(want).sum(axis=1))
        # The cosine of two numbers is only their sign: a column is taken as one vector over all rows.
        return figures if got.shape[1] == 1 else [_cosines(*figures)]

    def _scored(self, means: Sequence[_Rows]) -> Tuple[_Rows, None]:
        cosines = [_cosines(*np.moveaxis(mean, -1, 0)) if mean.shape[-1] > 1 else mean[..., 0] for mean in means]
        return np.mean(cosines, axis=0), None


class MeanSquaredError(_RowMeasure):
    """The mean over rows of the mean squared error, averaged over outputs.

    The magnitude is the target's mean square (the float model's, if that is zero).
    """

    def _row_figures(self, got: _Rows, want: _Rows, floats: _Rows) -> Sequence[_Rows]:
        return [np.square(values).mean(axis=1) for values in (got - want, want, floats)]

    def _scored(self, means: Sequence[_Rows]) -> Tuple[_Rows, _Rows]:
        errors, targets, floats = np.moveaxis(np.mean(means, axis=0), -1, 0)
        return errors, np.where(targets == 0, floats, targets)


class LargestError:
    """The largest |output - target| of all."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._magnitude = 0.0
        self._float_magnitude = 0.0
        self._rows: Dict[str, int] = {}

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Compares one sample.

        Raises:
            DataError: the outputs can't be compared.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            for name, got, want in _compared(outputs, sample.expected or _targets(reference)):
                self._largest = float(np.maximum(self._largest, np.abs(got - want).max()))
                self._magnitude = max(self._magnitude, float(np.abs(want).max()))
                floats = np.abs(np.asarray(reference.get(name, want), np.float64)).max()
                self._float_magnitude = max(self._float_magnitude, float(floats))
                self._rows[name] = self._rows.get(name, 0) + len(got)

    def score(self, resampling: Resampling) -> Score:  # noqa: ARG002
        """The error, beside the target's largest |value| (the float model's, if that is zero).

        Raises:
            DataError: nothing was compared.
        """
        if not self._rows:
            raise _nothing_compared()
        return Score(self._largest, None, None, max(self._rows.values()), self._magnitude or self._float_magnitude)

    def compare(self, candidate: Any, value: float, losses: Losses, resampling: Resampling) -> Loss:  # noqa: ARG002
        """The loss, without an interval: rows drawn again can't have a larger error."""
        return Loss(value, None, None, max(self._rows.values()))


@dataclass(frozen=True)
class AgreementScore:
    """How near outputs are to the float model's, over all samples; of several outputs the worst one's.

    `sqnr_db` is the float outputs' energy over the error's, infinite without any error. Both are NaN if an output is,
    if shapes differ, or if nothing could be compared.
    """

    cosine: float
    sqnr_db: float


class Agreement:
    """Compares outputs with the float model's, sample by sample; never raises for what it meets."""

    def __init__(self) -> None:
        self._sums: Dict[str, _Sums] = {}
        self._is_comparable = True

    def update(self, outputs: Outputs, reference: Outputs) -> None:
        """Takes the outputs of one sample."""
        try:
            for name, got, want in _compared(comparable(outputs), _targets(comparable(reference))):
                self._sums.setdefault(name, _Sums()).add(got, want)
        except DataError:
            self._is_comparable = False

    def result(self) -> AgreementScore:
        """The agreement so far."""
        if not self._is_comparable or not self._sums:
            return AgreementScore(math.nan, math.nan)
        sums = self._sums.values()
        return AgreementScore(float(np.min([s.cosine for s in sums])), float(np.min([s.sqnr_db for s in sums])))


class _Sums:
    """Products of a stream of outputs and targets."""

    def __init__(self) -> None:
        self.n = 0
        self._got = self._want = self._product = self._error = 0.0

    def add(self, got: _Rows, want: _Rows) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self.n += len(got)
            self._got += float(np.square(got).sum())
            self._want += float(np.square(want).sum())
            self._product += float((got * want).sum())
            self._error += float(np.square(got - want).sum())

    @property
    def cosine(self) -> float:
        return float(_cosines(*(np.float64(value) for value in (self._product, self._got, self._want))))

    @property
    def sqnr_db(self) -> float:
        if self._error == 0:
            return math.inf
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(10 * np.log10(np.float64(self._want) / self._error))


def _cosines(product: npt.ArrayLike, got: npt.ArrayLike, want: npt.ArrayLike) -> _Rows:
    """Cosines from a product and two squared lengths: 1 between two zero vectors, 0 if one is."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.asarray(product, np.float64) / (np.sqrt(got) * np.sqrt(want))
    cosines = np.where((got == 0) | (want == 0), np.where(got == want, 1.0, 0.0), cosines)
    clipped: _Rows = np.clip(cosines, -1.0, 1.0)
    return clipped


def _targets(reference: Outputs) -> Outputs:
    """The float model's outputs to compare with: those of floats, or of numbers where there are none."""
    floats = {name: array for name, array in reference.items() if array.dtype.kind == "f"}
    return floats or {name: array for name, array in reference.items() if array.dtype.kind in "iub"}


def _compared(outputs: Outputs, targets: Outputs) -> Iterator[Tuple[str, _Rows, _Rows]]:
    """Name, output and target as rows of float64, for each target that isn't empty."""
    for name, want in targets.items():
        if name not in outputs:
            raise DataError(f"expected output {name!r} is none of the model's; {nearest(name, outputs)}")
        got = outputs[name]
        if got.dtype.kind not in "fiub":
            raise DataError(f"output {name!r} has type {got.dtype}, expected numbers to compare")
        if got.squeeze().shape != want.squeeze().shape:
            raise DataError(
                f"output {name!r} has shape {list(got.shape)}, its target {list(want.shape)}; expected equal shapes: "
                "give a target of the output's shape, or use a metric of your own (module:function)"
            )
        if got.size:
            yield (name, *_without_equal_infinities(_rows(got, got.shape), _rows(want, got.shape)))


def _rows(array: Array, shape: Tuple[int, ...]) -> _Rows:
    return array.astype(np.float64).reshape(shape[0] if shape else 1, -1)


def _without_equal_infinities(got: _Rows, want: _Rows) -> Tuple[_Rows, _Rows]:
    """Zeros where both are the same infinity (a mask, as a rule), so that it is no error."""
    equal = np.isinf(want) & (got == want)
    return (np.where(equal, 0.0, got), np.where(equal, 0.0, want)) if equal.any() else (got, want)


def _nothing_compared() -> DataError:
    return DataError(
        "no output could be compared with a target; give held-out samples and outputs of numbers, "
        "or use metric accuracy, which compares strings"
    )
