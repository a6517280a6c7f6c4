"""What the values of a model's input are like, from one pass over them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.calibration.sample import Array

_Floats = npt.NDArray[np.float64]

_VALUES_AT_ONCE = 1 << 20
_MOST_CHANNELS = 16
_MOST_IDS = 1 << 20
_SHORTEST_SERIES = 8


@dataclass(frozen=True)
class RowFigures:
    """Figures of every row of an input, over its values other than zero, which pads: `[rows]` each.

    `count` says how many they are; `correlation` is that of neighbours along the longest axis, NaN where there is
    none; `low` and `high` are over all values.
    """

    count: _Floats
    mean: _Floats
    std: _Floats
    correlation: _Floats
    low: _Floats
    high: _Floats

    def content(self) -> Tuple[float, float]:
        """Mean and standard deviation of all values other than zero; NaN without any."""
        count = self.count.sum()
        if not count:
            return math.nan, math.nan
        with np.errstate(over="ignore", invalid="ignore"):
            mean = (self.count * self.mean).sum() / count
            variance = (self.count * (np.square(self.std) + np.square(self.mean - mean))).sum() / count
        return float(mean), float(np.sqrt(variance))

    def used(self) -> RowFigures:
        """The figures of rows that aren't nothing but zeros."""
        columns = (self.count, self.mean, self.std, self.correlation, self.low, self.high)
        return RowFigures(*(column[self.count > 0] for column in columns))


@dataclass(frozen=True)
class InputStatistics:
    """The values of one input, over all rows.

    A constant row has several values, all equal. `low_share` and `high_share` are the shares of values that are `low`
    or `high`. Channels are axis 1 of floats, if they are 16 at most. `outside` is the share of values outside the range
    of the calibration data, `unseen` that of an integer input's values which aren't in it; None where there is nothing
    to compare with. `ids` has an entry for every integer from 0 on: whether it is there.
    """

    dtype: np.dtype[Any]
    values_per_row: float
    rows: int
    constant_rows: int
    low: float
    high: float
    mean: float
    std: float
    low_share: float
    high_share: float
    channel_mean: Tuple[float, ...]
    channel_std: Tuple[float, ...]
    outside: float | None
    unseen: float | None
    row: RowFigures = field(repr=False, compare=False)
    ids: npt.NDArray[np.bool_] | None = field(repr=False, compare=False)

    @property
    def is_measured(self) -> bool:
        """Whether values are quantities (floats, or integers of a byte, as in images), not ids."""
        return self.dtype.kind == "f" or (self.dtype.kind in "iu" and self.dtype.itemsize == 1)


class RunningStatistics:
    """Statistics of an input that is fed in parts.

    It keeps 48 bytes a row, and works on a mebi of values at a time (a whole row, if that is longer), with about 30
    bytes for each.
    """

    def __init__(self, dtype: np.dtype[Any], calibration: InputStatistics | None = None) -> None:
        self._dtype = dtype
        self._calibration = calibration
        self._rows = bytearray()
        self._values = 0
        self._constant = 0
        self._low, self._at_low = math.inf, 0
        self._high, self._at_high = -math.inf, 0
        self._outside = 0
        self._channels = _Moments()
        self._ids = _Ids(None if calibration is None else calibration.ids)
        self._has_ids = dtype.kind in "iu" and dtype.itemsize > 1

    def update(self, array: Array, rows: int | None) -> None:
        """Takes an array with `rows` along axis 0, or of a single row if that is None."""
        batch = array if rows is not None else array[np.newaxis]
        if not batch.size:
            return
        if self._has_ids:
            self._ids.add(batch)
        step = max(1, _VALUES_AT_ONCE * len(batch) // batch.size)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(batch), step):
                part = batch[start : start + step].astype(np.float64)
                self._add(part)
                channel_axis = 1 if rows is not None else 2
                if self._dtype.kind == "f" and array.ndim >= 3 and part.shape[channel_axis] <= _MOST_CHANNELS:
                    self._channels.add(np.moveaxis(part, channel_axis, 0).reshape(part.shape[channel_axis], -1))

    def result(self) -> InputStatistics:
        """The statistics of all that was fed; there was something."""
        row = RowFigures(*np.frombuffer(bytes(self._rows)).reshape(-1, 6).T)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float((row.count * row.mean).sum()) / self._values
            squares = row.count * (np.square(row.std) + np.square(row.mean - mean))
            variance = (float(squares.sum()) + (self._values - float(row.count.sum())) * mean * mean) / self._values
        return InputStatistics(
            dtype=self._dtype,
            values_per_row=self._values / len(row.count),
            rows=len(row.count),
            constant_rows=self._constant,
            low=self._low,
            high=self._high,
            mean=mean,
            std=float(np.sqrt(variance)),
            low_share=self._at_low / self._values,
            high_share=self._at_high / self._values,
            channel_mean=tuple(self._channels.mean.tolist()),
            channel_std=tuple(self._channels.std.tolist()),
            outside=None if self._calibration is None else self._outside / self._values,
            unseen=None if self._ids.unseen is None else self._ids.unseen / self._values,
            row=row,
            ids=self._ids.seen if self._has_ids else None,
        )

    def _add(self, values: _Floats) -> None:
        flat = values.reshape(len(values), -1)
        lows, highs = flat.min(axis=1), flat.max(axis=1)
        low, high = float(lows.min()), float(highs.max())
        if low < self._low:
            self._low, self._at_low = low, 0
        if high > self._high:
            self._high, self._at_high = high, 0
        self._at_low += int(np.count_nonzero(flat == self._low))
        self._at_high += int(np.count_nonzero(flat == self._high))
        self._values += flat.size
        if flat.shape[1] > 1:
            self._constant += int(np.count_nonzero(lows == highs))
        if self._calibration is not None:
            self._outside += int(np.count_nonzero((flat < self._calibration.low) | (flat > self._calibration.high)))
        self._rows += np.column_stack((*_content_figures(values), lows, highs)).tobytes()


def _content_figures(values: _Floats) -> Tuple[_Floats, _Floats, _Floats, _Floats]:
    """Count, mean, standard deviation and neighbours' correlation of each row's values other than zero."""
    inner = tuple(range(1, values.ndim))
    is_used = values != 0
    count = is_used.sum(axis=inner)
    mean = values.sum(axis=inner) / np.maximum(count, 1)
    deviations = np.where(is_used, values - mean.reshape((-1,) + (1,) * len(inner)), 0.0)
    variance = np.square(deviations).sum(axis=inner) / np.maximum(count, 1)
    correlation = np.full(len(values), math.nan)
    if max(values.shape[1:], default=0) >= _SHORTEST_SERIES:
        longest = 1 + int(np.argmax(values.shape[1:]))
        series, mask = np.moveaxis(deviations, longest, -1), np.moveaxis(is_used, longest, -1)
        products = (series[..., 1:] * series[..., :-1]).sum(axis=inner)
        pairs = (mask[..., 1:] & mask[..., :-1]).sum(axis=inner)
        np.divide(products, pairs * variance, out=correlation, where=(pairs > 0) & (variance > 0))
    return count.astype(np.float64), mean, np.sqrt(variance), correlation


class _Moments:
    """Mean and standard deviation of every channel, merged part by part.

    Source: T. Chan, G. Golub, R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances"
    (1979).
    """

    def __init__(self) -> None:
        self._n = 0
        self.mean = np.zeros(0)
        self._squares = np.zeros(0)

    @property
    def std(self) -> _Floats:
        std: _Floats = np.sqrt(self._squares / max(self._n, 1))
        return std

    def add(self, values: _Floats) -> None:
        """Takes values as `[channels, any]`; a part with another number of channels is left out."""
        if not self._n:
            self.mean = self._squares = np.zeros(len(values))
        if len(values) != len(self.mean):
            return
        n = self._n + values.shape[1]
        mean = values.mean(axis=1)
        apart = mean - self.mean
        inside = np.square(values - mean[:, np.newaxis]).sum(axis=1)
        self._squares = self._squares + inside + np.square(apart) * (self._n * values.shape[1] / n)
        self.mean = self.mean + apart * (values.shape[1] / n)
        self._n = n


class _Ids:
    """Which integers from 0 to 2**20 occur, and how many values aren't among known ones (None: not known)."""

    def __init__(self, known: npt.NDArray[np.bool_] | None) -> None:
        self.seen: npt.NDArray[np.bool_] | None = np.zeros(0, np.bool_)
        self.unseen: int | None = None if known is None else 0
        self._known = known

    def add(self, values: Array) -> None:
        low, high = int(values.min()), int(values.max())
        if self.seen is not None:
            if low < 0 or high >= _MOST_IDS:
                self.seen = None
            else:
                self.seen = np.pad(self.seen, (0, max(0, (1 << high.bit_length()) - len(self.seen))))
                self.seen[values.astype(np.intp)] = True
        if self._known is not None and self.unseen is not None:
            inside = values[(values >= 0) & (values < len(self._known))].astype(np.intp)
            self.unseen += values.size - int(np.count_nonzero(self._known[inside]))
