"""What a calibration found, tensor by tensor, in numbers and in one line of text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from edge_runtime.calibration.calibrator import ALGORITHMS
from edge_runtime.calibration.histogram import Histogram
from edge_runtime.calibration.histogram_file import HISTOGRAMS_FILE, read_histograms
from edge_runtime.calibration.table import CalibrationTable

_COLUMNS = 20
_HEIGHTS = "▁▂▃▄▅▆▇█"
_LEVELS = 127


@dataclass(frozen=True)
class CalibrationReport:
    """The histograms of a calibration and the tables beside them, by algorithm."""

    samples: int
    histograms: Mapping[str, Histogram]
    tables: Mapping[str, CalibrationTable]

    def ranges(self, tensor: str) -> Dict[str, float]:
        """The dynamic range of a tensor, the largest |x| that it represents, by algorithm."""
        tables = self.tables.items()
        return {name: table.scales[tensor] * _LEVELS for name, table in tables if table.scales.get(tensor)}

    def record(self) -> List[Dict[str, Any]]:
        """For JSON: each tensor with its counts in 32 equal parts of [0, amax], and what each algorithm makes of it."""
        return [
            {
                "tensor": name,
                "amax": histogram.amax,
                "values": histogram.total,
                "zeros": histogram.zeros,
                "counts": column_counts(histogram),
                "algorithms": {
                    algorithm: {
                        "scale": limit / _LEVELS,
                        "dynamic_range": limit,
                        "share_clipped": histogram.share_above(limit),
                    }
                    for algorithm, limit in self.ranges(name).items()
                },
            }
            for name, histogram in self.histograms.items()
        ]


def read_report(folder: Path) -> CalibrationReport:
    """The report on a folder of the calibration cache.

    Raises:
        CalibrationError: a file in it can't be read or is damaged.
    """
    stored = read_histograms(folder / HISTOGRAMS_FILE)
    paths = {name: folder / f"{name}.cache" for name in ALGORITHMS}
    tables = {name: CalibrationTable.read(path) for name, path in paths.items() if path.exists()}
    return CalibrationReport(stored.samples, stored.histograms, tables)


def column_counts(histogram: Histogram, columns: int = _COLUMNS) -> List[int]:
    """How many values other than zero lie in each of so many equal parts of [0, amax], to the nearest bin."""
    counts = histogram.counts.copy()
    counts[0] -= histogram.zeros
    used = histogram.bin_index(histogram.amax) + 1
    column = np.arange(used) * columns // used
    return np.bincount(column, counts[:used], columns).astype(np.int64).tolist()  # type: ignore[no-any-return]


def sparkline(histogram: Histogram, threshold: float | None) -> str:
    """The counts over |x| from 0 to amax on a log scale, with a bar where `threshold` cuts."""
    counts = column_counts(histogram)
    top = math.log1p(max(counts)) or 1.0
    text = "".join(_HEIGHTS[round(math.log1p(n) / top * (len(_HEIGHTS) - 1))] if n else " " for n in counts)
    if threshold is None or not histogram.amax:
        return text
    cut = min(math.ceil(threshold / histogram.amax * _COLUMNS), _COLUMNS)
    return f"{text[:cut]}|{text[cut:]}"


def log_bars(values: Sequence[float]) -> List[str]:
    """A bar for each value, as long as its logarithm lies high between the smallest and the largest of them."""
    logs = [math.log10(value) for value in values if value > 0]
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    lengths = [(math.log10(value) - low) / ((high - low) or 1.0) if value > 0 else None for value in values]
    return ["" if length is None else "█" * (1 + round(length * (_COLUMNS - 1))) for length in lengths]
