"""How thresholds are chosen: four algorithms behind one interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Dict, Protocol

import numpy as np

from edge_runtime.calibration.entropy import entropy_threshold
from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.mse import mse_threshold
from edge_runtime.errors import CalibrationError, nearest


class Calibrator(Protocol):
    """Chooses where a tensor saturates in int8."""

    @property
    def name(self) -> str:
        """Its name in recipes, one of ALGORITHMS."""

    def threshold(self, histogram: Histogram) -> float:
        """The largest |x| to represent: above 0 and at most amax, or 0.0 if nothing but zeros was seen."""


@dataclass(frozen=True)
class Entropy:
    """Loses least information; at most the share `max_clipped` of the values other than zero lies above."""

    max_clipped: float = 1e-3
    name: ClassVar[str] = "entropy"

    def __post_init__(self) -> None:
        if not 0 <= self.max_clipped < 1:
            raise CalibrationError(f"max_clipped {self.max_clipped}: expected a share from 0 to below 1")

    def threshold(self, histogram: Histogram) -> float:
        """As `entropy_threshold` says."""
        return entropy_threshold(histogram, self.max_clipped)


@dataclass(frozen=True)
class Percentile:
    """Represents `percentile` % of all values, zeros included; values are spread evenly inside a bin.

    Where that many are zeros it says nothing about the others, and the whole range is kept.
    """

    percentile: float = 99.99
    name: ClassVar[str] = "percentile"

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise CalibrationError(f"percentile {self.percentile}: expected a number above 0, up to 100")

    def threshold(self, histogram: Histogram) -> float:
        """The |x| that so many values don't exceed."""
        rank = histogram.total * self.percentile / 100 - histogram.zeros
        if rank <= 0 or self.percentile == 100:
            return histogram.amax
        counts = histogram.counts.copy()
        counts[0] -= histogram.zeros
        below = np.concatenate(([0], np.cumsum(counts)))
        index = int(np.searchsorted(below, rank)) - 1  # below[index] < rank <= below[index + 1]
        inside = (rank - int(below[index])) / int(counts[index])
        return min((index + inside) * histogram.bin_width, histogram.amax)


@dataclass(frozen=True)
class MeanSquaredError:
    """Has the least squared error of int8."""

    name: ClassVar[str] = "mse"

    def threshold(self, histogram: Histogram) -> float:
        """As `mse_threshold` says."""
        return mse_threshold(histogram)


@dataclass(frozen=True)
class Max:
    """Represents every value that was seen."""

    name: ClassVar[str] = "max"

    def threshold(self, histogram: Histogram) -> float:
        """The largest |x|."""
        return histogram.amax


ALGORITHMS = (Entropy.name, Percentile.name, MeanSquaredError.name, Max.name)


def calibrator_from_name(name: str, max_clipped: float = 1e-3, percentile: float = 99.99) -> Calibrator:
    """The calibrator of a recipe's `algorithm`, with the setting that is its own.

    Raises:
        CalibrationError: there is none of that name, or its setting is out of range.
    """
    calibrators: Dict[str, Calibrator] = {
        calibrator.name: calibrator
        for calibrator in (Entropy(max_clipped), Percentile(percentile), MeanSquaredError(), Max())
    }
    if name not in calibrators:
        raise CalibrationError(f"calibration algorithm {name!r}: {nearest(name, ALGORITHMS)}")
    return calibrators[name]
