"""One feed of a model, from a file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.tensors import DType

Arrays = Dict[str, "np.ndarray[Any, Any]"]


def feeds_from_npz(path: Path) -> Arrays:
    """The arrays of an .npz file, by name; those of text or bytes become tensors of BYTES.

    Raises:
        DataError: it can't be read, or isn't an .npz file of plain arrays.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path}: expected an .npz file with one array per input")
        with np.load(path, allow_pickle=False) as file:
            return {name: _with_strings(file[name]) for name in file.files}
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not an .npz file of plain arrays: {error}") from error


def _with_strings(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return array.astype(DType.BYTES.numpy) if array.dtype.kind == "S" else array
