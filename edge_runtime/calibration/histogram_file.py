"""Histograms as a file that is checked when it is read."""

from __future__ import annotations

import io
import json
import math
import struct
import tokenize
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
import numpy.typing as npt

from edge_runtime.calibration.histogram import BINS, Histogram, exponent_of
from edge_runtime.errors import CalibrationError
from edge_runtime.plan.files import make_folder, write_atomically

HISTOGRAMS_FILE = "histograms.npz"
_FORMAT = 1
_KINDS = {"header": "u1", "amax": "f8", "zeros": "i8", "counts": "u"}
_LARGEST_TOTAL = 2.0**53  # float64 holds counts up to it exactly
# What zipfile, NumPy and json raise on bytes that aren't theirs.
_BROKEN = (
    zipfile.BadZipFile,
    struct.error,
    tokenize.TokenError,
    ValueError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    MemoryError,
)


@dataclass(frozen=True)
class StoredHistograms:
    """Histograms by tensor, the number of samples that they count, and the key of model, data and tensors."""

    histograms: Mapping[str, Histogram]
    samples: int
    key: str


def write_histograms(path: Path, stored: StoredHistograms) -> None:
    """Replaces `path`, whole or not at all; makes its folder.

    Raises:
        CalibrationError: the file can't be written.
    """
    fields = {"format": _FORMAT, "key": stored.key, "samples": stored.samples, "tensors": list(stored.histograms)}
    histograms = stored.histograms.values()
    kind = np.min_scalar_type(max(histogram.total for histogram in histograms))
    content = io.BytesIO()
    np.savez(
        content,
        header=np.frombuffer(json.dumps(fields).encode(), np.uint8),
        amax=np.array([histogram.amax for histogram in histograms]),
        zeros=np.array([histogram.zeros for histogram in histograms]),
        counts=np.array([histogram.counts.astype(kind) for histogram in histograms]),
    )
    try:
        make_folder(path.parent)
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise CalibrationError(f"{path}: histograms can't be written ({error.strerror})") from error


def read_histograms(path: Path) -> StoredHistograms:
    """What a file holds; everything in it is checked, and nothing in it is run.

    Raises:
        CalibrationError: the file can't be read, is damaged, or isn't one of histograms.
    """
    try:
        arrays = _arrays(path)
        header = json.loads(arrays["header"].tobytes())
        names, samples, key = header["tensors"], header["samples"], header["key"]
        is_whole = type(samples) is int and samples > 0 and isinstance(key, str)
        _check(header["format"] == _FORMAT and is_whole, "header")
        is_named = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        _check(is_named and len(set(names)) == len(names), "names of tensors")
        "".join(names).encode()  # which half of a surrogate pair can't be
        _check(all(len(arrays[part]) == len(names) for part in ("amax", "zeros", "counts")), "number of tensors")
        rows = zip(names, arrays["amax"].tolist(), arrays["zeros"].tolist(), arrays["counts"])
        histograms = {name: _histogram(name, amax, zeros, counts) for name, amax, zeros, counts in rows}
        return StoredHistograms(histograms, samples, key)
    except OSError as error:
        raise CalibrationError(f"{path}: histograms can't be read ({error.strerror})") from error
    except _BROKEN as error:
        raise CalibrationError(f"{path}: not a sound file of histograms ({error}); calibrate again") from error


def _arrays(path: Path) -> Dict[str, npt.NDArray[Any]]:
    """The arrays of a file, each smaller than it, and none of Python objects."""
    _check(path.is_file() or not path.exists(), "kind of file")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check(sorted(member.filename for member in members) == sorted(f"{name}.npy" for name in _KINDS), "members")
        _check(all(member.compress_type == zipfile.ZIP_STORED for member in members), "compression")
        _check(archive.testzip() is None, "checksum")
    with np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in _KINDS}
    for name, array in arrays.items():
        _check(array.dtype.str[1:].startswith(_KINDS[name]), f"type of {name}")
        _check(array.shape[1:] == ((BINS,) if name == "counts" else ()) and array.ndim > 0, f"shape of {name}")
    return arrays


def _histogram(name: str, amax: float, zeros: int, counts: npt.NDArray[Any]) -> Histogram:
    _check(math.isfinite(amax) and amax >= 0, f"largest value of {name!r}")
    total = float(counts.sum(dtype=np.float64))
    _check(0 < total < _LARGEST_TOTAL and 0 <= zeros <= int(counts[0]), f"counts of {name!r}")
    histogram = Histogram(name, exponent_of(amax), amax, int(total), zeros, counts.astype(np.int64))
    last = histogram.bin_index(amax)
    is_sound = counts[last] > (0 if last else zeros) and not counts[last + 1 :].any() if amax else zeros == total
    _check(bool(is_sound), f"bins of {name!r}")
    return histogram


def _check(is_sound: bool, what: str) -> None:
    if not is_sound:
        raise ValueError(f"wrong {what}")
