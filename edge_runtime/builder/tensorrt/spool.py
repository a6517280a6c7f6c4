"""Calibration batches as files, for a process that has no samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.calibration.sample import Sample
from edge_runtime.errors import CalibrationError
from edge_runtime.tensors import Shape

_NAMES = "names.txt"


@dataclass(frozen=True)
class Batches:
    """The batches in a folder: `names.txt` names the inputs, `<batch>-<input>.npy` are arrays of one shape."""

    folder: Path

    @cached_property
    def names(self) -> List[str]:
        """The inputs in their order."""
        return (self.folder / _NAMES).read_text(encoding="utf-8").splitlines()

    @cached_property
    def count(self) -> int:
        """How many batches there are."""
        return len(list(self.folder.glob("*-0.npy")))

    def read(self, batch: int) -> Dict[str, npt.NDArray[Any]]:
        """The arrays of a batch by input, read as they are used."""
        return {
            name: np.load(self.folder / f"{batch}-{index}.npy", mmap_mode="r") for index, name in enumerate(self.names)
        }

    def shapes(self) -> Dict[str, Shape]:
        """The shape that every batch has, by input."""
        return {name: value.shape for name, value in self.read(0).items()}


def write_batches(folder: Path, names: List[str], samples: Iterable[Sample]) -> Tuple[int, int]:
    """Writes batches of one shape, that of the first, into a new folder; how many, and how many were of another shape.

    Raises:
        CalibrationError: there are none.
    """
    folder.mkdir()
    (folder / _NAMES).write_text("\n".join(names), encoding="utf-8")
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
