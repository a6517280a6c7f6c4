"""A model's files as few as can be, whatever it was exported as."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Mapping, Union

from edge_runtime.graph.source import read_source
from edge_runtime.graph.weights import MODEL_FILE, files_of


def merged_files(path: Path) -> Mapping[str, Union[bytes, Iterable[bytes]]]:
    """An ONNX file as `model.onnx`: as it is, or with its external data inside (over 2 GiB: as `model.onnx.data`).

    Raises:
        ModelError: a file is missing, damaged or outside the model's folder.
        UnsupportedModelError: it is too large.
    """
    proto, files = read_source(path)
    return {MODEL_FILE: path.read_bytes()} if len(files) == 1 else files_of(proto, str(path))
