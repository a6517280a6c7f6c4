"""Calibration batches as files, for a process that has no samples."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, List, Tuple

import numpy as np

from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import CalibrationError
from edge_runtime.tensors import Shape


def write_batches(folder: Path, names: List[str], samples: Iterable[Sample]) -> Tuple[int, int]:
    """Writes batches of one shape, that of the first, into a new folder; how many, and how many were of another shape.

    Raises:
        CalibrationError: there are none.
    """
    folder.mkdir()
    (folder / "names.txt").write_text("\n".join(names), encoding="utf-8")
    first: List[Shape] = []
    written = skipped = 0
    for sample in samples:
        arrays = [np.ascontiguousarray(sample.feeds[name]) for name in names]
        shapes = [array.shape for array in arrays]
        first = first or shapes
        if shapes != first:
            skipped += 1  # the last batch of a file may be smaller, and TensorRT's calibrator knows one shape only
            continue
        for index, array in enumerate(arrays):
            np.save(folder / f"{written}-{index}.npy", array)
        written += 1
    if not written:
        raise CalibrationError("no calibration samples; give --calibration C.npz or [calibration] data")
    return written, skipped
