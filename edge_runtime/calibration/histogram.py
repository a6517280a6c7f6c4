"""Histograms of |x| that can be merged exactly, in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import CalibrationError

BINS = 4096
_BIN_BITS = 12
# Smaller ranges than float32's smallest number all fall into one.
_MIN_EXPONENT = -160
_CHUNK = 1 << 15  # with what is made of it, it stays in a core's cache


def exponent_of(amax: float) -> int | None:
    """The range of a histogram whose largest |x| is `amax`, as a power of two; None for nothing but zeros."""
    return max(math.frexp(amax)[1], _MIN_EXPONENT) if amax else None


@dataclass(eq=False)
class Histogram:
    """Counts of |x| in 4096 equal bins of [0, 2**exponent), the smallest power of two above the largest |x| seen.

    A larger value doubles the range as often as needed, merging bins in pairs. That equals counting anew, so the
    result doesn't depend on the order of values or on how they were cut into arrays. `exponent` is None until a
    value other than zero is seen.
    """

    name: str
    exponent: int | None = None
    amax: float = 0.0
    total: int = 0
    zeros: int = 0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def bin_width(self) -> float:
        """The width of a bin; 0.0 until a value other than zero is seen."""
        return 0.0 if self.exponent is None else math.ldexp(1.0, self.exponent - _BIN_BITS)

    def bin_index(self, magnitude: float) -> int:
        """The bin that holds `magnitude`, which is at most amax."""
        return 0 if self.exponent is None else int(math.ldexp(magnitude, _BIN_BITS - self.exponent))

    def share_above(self, magnitude: float) -> float:
        """The share of all values whose |x| is larger than `magnitude` (above 0), spread evenly inside a bin.

        A magnitude that is amax but for float32's rounding has none above it.
        """
        if magnitude >= self.amax * (1 - 1e-6):
            return 0.0
        index = self.bin_index(magnitude)
        inside = (index + 1 - magnitude / self.bin_width) * (self.counts[index] - (0 if index else self.zeros))
        return float((self.counts[index + 1 :].sum() + inside) / self.total)

    def update(self, array: npt.NDArray[Any], sample: str | int) -> None:
        """Counts all elements of `array`, which came from `sample`.

        Raises:
            CalibrationError: one of them is NaN or infinite; the histogram is then of no more use.
        """
        flat = array.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            self._count(flat[start : start + _CHUNK], sample)

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of what both have counted, under this one's name."""
        merged = Histogram(self.name, self.exponent, max(self.amax, other.amax), counts=self.counts.copy())
        merged.total = self.total + other.total
        merged.zeros = self.zeros + other.zeros
        theirs = other
        if other.exponent is not None:
            merged._grow(other.exponent)
        if merged.exponent is not None and other.exponent != merged.exponent:
            theirs = Histogram(other.name, other.exponent, counts=other.counts.copy())
            theirs._grow(merged.exponent)
        merged.counts += theirs.counts
        return merged

    def _count(self, chunk: npt.NDArray[Any], sample: str | int) -> None:
        is_single = chunk.dtype.kind == "f" and chunk.dtype.itemsize <= 4
        magnitudes = np.abs(chunk, dtype=np.float32 if is_single else np.float64)
        largest = float(magnitudes.max())
        if not math.isfinite(largest):
            kind = "NaN" if math.isnan(largest) else "infinite"
            raise CalibrationError(
                f"tensor {self.name!r} is {kind} at sample {sample}: no scale can be had from it; "
                "leave that sample out, or mend the model"
            )
        self.amax = max(self.amax, largest)
        self.total += chunk.size
        self.zeros += int(np.count_nonzero(magnitudes == 0))
        exponent = exponent_of(largest)
        if exponent is not None:
            self._grow(exponent)
        self.counts += np.bincount(self._bins(magnitudes), minlength=BINS)

    def _bins(self, magnitudes: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """The bin of each magnitude, exactly: scaling by a power of two doesn't round what lies above the first bin."""
        shift = _BIN_BITS - (self.exponent or 0)
        if shift > 127 and magnitudes.dtype == np.float32:
            magnitudes = magnitudes.astype(np.float64)  # 2**128 is no float32
        scaled: npt.NDArray[Any] = magnitudes * magnitudes.dtype.type(math.ldexp(1.0, shift))
        return scaled.astype(np.int32)

    def _grow(self, exponent: int) -> None:
        """Widens the range to [0, 2**exponent) if it is narrower."""
        if self.exponent is not None and self.exponent >= exponent:
            return
        doublings = _BIN_BITS if self.exponent is None else min(exponent - self.exponent, _BIN_BITS)
        merged = self.counts.reshape(-1, 1 << doublings).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[: merged.size] = merged
        self.exponent = exponent
