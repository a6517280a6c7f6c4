"""From a model's activations to a calibration table."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.calibration.entropy import entropy_threshold
from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.sample import Sample
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.errors import CalibrationError
from edge_runtime.tensors import Feeds

_LEVELS = 127
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def collect(
    run: Callable[[Feeds], Mapping[str, npt.NDArray[Any]]], samples: Iterable[Sample], tensors: Sequence[str]
) -> Dict[str, Histogram]:
    """The histogram of each of `tensors` over all `samples`, in one pass that holds one sample's activations.

    `run` answers feeds with activations by name.

    Raises:
        CalibrationError: there is no sample, a tensor never has a value, or one is NaN or infinite.
    """
    histograms = {name: Histogram(name) for name in tensors}
    done = 0
    for sample in samples:
        activations = run(sample.feeds)
        for name, histogram in histograms.items():
            if name in activations:
                histogram.update(activations[name], done)
        done += 1
    if not done:
        raise CalibrationError("no calibration sample was given; expected at least one")
    unseen = [name for name, histogram in histograms.items() if not histogram.total]
    if unseen:
        raise CalibrationError(
            f"tensor {unseen[0]!r} ({len(unseen)} of {len(histograms)}) had no value in any of {done} samples; "
            "give samples that reach it, or keep its nodes in float"
        )
    return histograms


def table_from_histograms(histograms: Mapping[str, Histogram], max_clipped: float = 1e-3) -> CalibrationTable:
    """The scale of each tensor from its entropy threshold, which clips at most that share of its values but zeros.

    A tensor of nothing but zeros gets the scale of the range [-1, 1]: every scale represents it exactly, and zero
    itself is no scale to TensorRT. No scale is below float32's smallest normal number, so that 1/scale is finite.

    Raises:
        CalibrationError: a threshold is above float32's range.
    """
    thresholds = {name: entropy_threshold(histogram, max_clipped) for name, histogram in histograms.items()}
    return CalibrationTable(
        {name: max((threshold or 1.0) / _LEVELS, _SMALLEST_SCALE) for name, threshold in thresholds.items()}
    )
