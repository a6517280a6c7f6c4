"""From a model's activations to histograms, and from those to a calibration table."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Collection, Dict, Iterable, Mapping, Sequence

import numpy.typing as npt

from edge_runtime.calibration.calibrator import Calibrator
from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.sample import Sample
from edge_runtime.calibration.table import CalibrationTable, usable_scale
from edge_runtime.errors import CalibrationError
from edge_runtime.tensors import Feeds

Array = npt.NDArray[Any]

_LEVELS = 127
# Activations up to this size are counted while the next sample runs.
_OVERLAPPED_NBYTES = 96 << 20


def collect(
    run: Callable[[Feeds], Mapping[str, Array]],
    samples: Iterable[Sample],
    tensors: Sequence[str],
    optional: Collection[str] = (),
    is_overlapped: bool = False,
) -> Dict[str, Histogram]:
    """The histogram of each of `tensors` over all `samples`, in one pass; their order doesn't matter.

    `run` answers feeds with activations by name. Memory doesn't depend on the number of samples: 32 KiB a tensor, and
    the activations of one sample. Where `is_overlapped`, `run` must leave the arrays of earlier answers alone, for
    activations of up to 96 MiB are counted while the next sample runs. Tensors that are `optional` are left out where
    others are an error.

    Raises:
        CalibrationError: there is no sample, a tensor never has a value, or one is NaN or infinite.
    """
    histograms = {name: Histogram(name) for name in tensors}
    done = 0
    with ThreadPoolExecutor(1) as thread:
        counted: Future[None] | None = None
        for sample in samples:
            answer = run(sample.feeds)
            if counted is not None:
                counted.result()
            activations = {name: answer[name] for name in histograms if name in answer}
            nbytes = sum(value.nbytes for value in activations.values())
            counted = thread.submit(_count, histograms, activations, optional, range(done, done + (sample.rows or 1)))
            del answer, activations
            if nbytes > _OVERLAPPED_NBYTES or not is_overlapped:
                counted.result()
            done += sample.rows or 1
        if counted is not None:
            counted.result()
    if not done:
        raise CalibrationError("no calibration sample was given; expected at least one")
    unseen = [name for name, histogram in histograms.items() if not histogram.total]
    _check_seen([name for name in unseen if name not in optional], histograms, done)
    return {name: histogram for name, histogram in histograms.items() if name not in unseen}


def _count(
    histograms: Dict[str, Histogram], activations: Dict[str, Array], optional: Collection[str], rows: range
) -> None:
    """Counts activations of so many rows, letting go of each when it is done."""
    for name in list(activations):
        array = activations.pop(name)
        try:
            histograms[name].update(array, rows[0])
        except CalibrationError:
            if name not in optional:
                _find(name, array, rows)
                raise
            del histograms[name]


def _find(name: str, array: Array, rows: range) -> None:
    """Raises the error again with the row that caused it, where the rows of a batch can be told apart."""
    if array.ndim and len(array) == len(rows):
        for row, values in zip(rows, array):
            Histogram(name).update(values, row)


def _check_seen(unseen: Sequence[str], histograms: Mapping[str, Histogram], samples: int) -> None:
    if unseen:
        raise CalibrationError(
            f"tensor {unseen[0]!r} ({len(unseen)} of {len(histograms)}) had no value in any of {samples} samples; "
            "give samples that reach it, or keep its nodes in float"
        )


def table_from_histograms(histograms: Mapping[str, Histogram], calibrator: Calibrator) -> CalibrationTable:
    """The scale of each tensor: the calibrator's threshold over 127, made usable.

    Raises:
        CalibrationError: a threshold is above float32's range.
    """
    thresholds = {name: calibrator.threshold(histogram) for name, histogram in histograms.items()}
    return CalibrationTable({name: usable_scale(threshold / _LEVELS) for name, threshold in thresholds.items()})
