"""How far outputs are from their targets: cosine, errors, and agreement with the float model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Iterator, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DataError, nearest
from edge_runtime.evaluation.intervals import mean_interval
from edge_runtime.evaluation.score import Array, LabelledSample, Outputs, Score

_Rows = npt.NDArray[np.float64]


class Cosine:
    """The mean over rows of the cosine of output and target, averaged over outputs."""

    def __init__(self) -> None:
        self._rows: Dict[str, _Mean] = {}
        self._columns: Dict[str, _Sums] = {}

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Compares one sample.

        Raises:
            DataError: the outputs can't be compared.
        """
        for name, got, want in _compared(outputs, sample.expected or _targets(reference)):
            if got.shape[1] == 1:  # the cosine of two numbers is only their sign: take the column as one vector
                self._columns.setdefault(name, _Sums()).add(got, want)
            else:
                self._rows.setdefault(name, _Mean()).add(_row_cosines(got, want))

    def score(self) -> Score:
        """The mean cosine, with a normal interval where no output is a single column.

        Raises:
            DataError: nothing was compared.
        """
        if not self._columns:
            return _mean_score(self._rows, (-1.0, 1.0))
        values = [mean.value for mean in self._rows.values()] + [sums.cosine for sums in self._columns.values()]
        n = max(part.n for parts in (self._rows, self._columns) for part in parts.values())
        return Score(sum(values) / len(values), None, None, n)


class MeanSquaredError:
    """The mean over rows of the mean squared error, averaged over outputs."""

    def __init__(self) -> None:
        self._errors: Dict[str, _Mean] = {}
        self._squares: Dict[str, _Mean] = {}
        self._float_squares: Dict[str, _Mean] = {}

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Compares one sample.

        Raises:
            DataError: the outputs can't be compared.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            for name, got, want in _compared(outputs, sample.expected or _targets(reference)):
                self._errors.setdefault(name, _Mean()).add(np.square(got - want).mean(axis=1))
                self._squares.setdefault(name, _Mean()).add(np.square(want).mean(axis=1))
                floats = np.asarray(reference.get(name, want), np.float64).reshape(len(want), -1)
                self._float_squares.setdefault(name, _Mean()).add(np.square(floats).mean(axis=1))

    def score(self) -> Score:
        """The error, with a normal interval, beside the target's mean square (the float model's, if that is zero).

        Raises:
            DataError: nothing was compared.
        """
        target, floats = (_mean_score(means, (0.0, math.inf)).value for means in (self._squares, self._float_squares))
        return _mean_score(self._errors, (0.0, math.inf), target or floats)


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

    def score(self) -> Score:
        """The error, beside the target's largest |value| (the float model's, if that is zero).

        Raises:
            DataError: nothing was compared.
        """
        if not self._rows:
            raise _nothing_compared()
        return Score(self._largest, None, None, max(self._rows.values()), self._magnitude or self._float_magnitude)


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
            for name, got, want in _compared(outputs, _targets(reference)):
                self._sums.setdefault(name, _Sums()).add(got, want)
        except DataError:
            self._is_comparable = False

    def result(self) -> AgreementScore:
        """The agreement so far."""
        if not self._is_comparable or not self._sums:
            return AgreementScore(math.nan, math.nan)
        sums = self._sums.values()
        return AgreementScore(float(np.min([s.cosine for s in sums])), float(np.min([s.sqnr_db for s in sums])))


class _Mean:
    """Mean and variance of a stream of values."""

    def __init__(self) -> None:
        self.n = 0
        self._sum = 0.0
        self._squares = 0.0

    def add(self, values: _Rows) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self.n += values.size
            self._sum += float(values.sum())
            self._squares += float(np.square(values).sum())

    @property
    def value(self) -> float:
        return self._sum / self.n

    @property
    def half_width(self) -> float:
        variance = max(0.0, self._squares / self.n - self.value * self.value) * self.n / max(self.n - 1, 1)
        return mean_interval(0.0, variance, self.n)[1]


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


def _row_cosines(got: _Rows, want: _Rows) -> _Rows:
    with np.errstate(over="ignore", invalid="ignore"):
        return _cosines((got * want).sum(axis=1), np.square(got).sum(axis=1), np.square(want).sum(axis=1))


def _cosines(product: npt.ArrayLike, got: npt.ArrayLike, want: npt.ArrayLike) -> _Rows:
    """Cosines from a product and two squared lengths: 1 between two zero vectors, 0 if one is."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.asarray(product, np.float64) / (np.sqrt(got) * np.sqrt(want))
    cosines = np.where((got == 0) | (want == 0), np.where(got == want, 1.0, 0.0), cosines)
    clipped: _Rows = np.clip(cosines, -1.0, 1.0)
    return clipped


def _mean_score(means: Dict[str, _Mean], bounds: Tuple[float, float], magnitude: float = 1.0) -> Score:
    if not means:
        raise _nothing_compared()
    value = sum(mean.value for mean in means.values()) / len(means)
    half = sum(mean.half_width for mean in means.values()) / len(means)  # outputs of one row depend on each other
    n = max(mean.n for mean in means.values())
    if not math.isfinite(value) or not math.isfinite(half) or n < 2:
        return Score(value, None, None, n, magnitude)
    return Score(value, max(bounds[0], value - half), min(bounds[1], value + half), n, magnitude)


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
    return DataError("no output could be compared with a target; give held-out samples and outputs of numbers")
