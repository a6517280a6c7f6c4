"""What scoring reads and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Protocol

import numpy.typing as npt

from edge_runtime.evaluation.bootstrap import Resampling
from edge_runtime.evaluation.loss import Loss, Losses
from edge_runtime.tensors import DType, float32_from_bfloat16

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]


def comparable(outputs: Outputs) -> Outputs:
    """The outputs with floats in the place of BF16, of which NumPy knows no arithmetic."""
    return {
        name: float32_from_bfloat16(array) if array.dtype == DType.BF16.numpy else array
        for name, array in outputs.items()
    }


class LabelledSample(Protocol):
    """A held-out sample: class ids of its rows, and outputs by name, where known."""

    @property
    def label(self) -> Array | None:
        """The class ids, or None."""

    @property
    def expected(self) -> Mapping[str, Array] | None:
        """The outputs that should come out, or None."""


@dataclass(frozen=True)
class Score:
    """What a metric came to over `n` rows, and where its true value lies with 95 % confidence (None: not known).

    `magnitude` is what a loss is measured by: the target's mean square for mse, its largest |value| for max-abs; None
    for the float model's |value|. `value` is NaN if any output was NaN.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    magnitude: float | None = None


class Measure(Protocol):
    """The arithmetic of one metric, fed sample by sample."""

    def add(self, outputs: Outputs, sample: LabelledSample, reference: Outputs) -> None:
        """Takes the outputs of one sample; `reference` are the float model's.

        Raises:
            DataError: they can't be compared.
        """

    def score(self, resampling: Resampling) -> Score:
        """The score of all that was added.

        Raises:
            DataError: nothing was.
        """

    def compare(self, candidate: Any, value: float, losses: Losses, resampling: Resampling) -> Loss:
        """The loss `value` of a measure of the same kind that was fed the same samples, with its interval."""
