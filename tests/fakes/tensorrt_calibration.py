"""How the fake builder calibrates: it calls a calibrator in TensorRT's order, and takes ranges as max |x| / 127."""

from __future__ import annotations

import re
import struct
from typing import Any, Callable, Dict, List

import numpy as np
from fakes.tensorrt_binding import call_back
from fakes.tensorrt_board import log
from fakes.tensorrt_model import NUMPY


def cache_version(version: str) -> int:
    """The number that a cache's first line has: 8205 for 8.2.5, 101401 for 10.14.1."""
    major, minor, patch = ([int(part) for part in version.split(".")] + [0, 0])[:3]
    return major * (10_000 if major >= 10 else 1000) + minor * 100 + patch


def calibrated(module: Any, logger: Any, calibrator: Any, inputs: List[Any], shapes: Dict[str, Any]) -> Dict[str, Any]:
    """What a calibrator gave: `cache` (text), `scales` (hex by tensor), `batches`, `is_from_cache`.

    Raises:
        AssertionError: "std::terminate" where a callback raised on 8.2, "segfault" where it gave too few addresses.
    """
    drive = _Drive(module, calibrator)
    header = f"TRT-{cache_version(module.__version__)}-{calibrator._title}"
    drive.call("get_batch_size", calibrator.get_batch_size, 0)
    drive.call("get_algorithm", calibrator.get_algorithm)
    raw = drive.call("read_calibration_cache", calibrator.read_calibration_cache)
    text = bytes(raw).decode(errors="replace") if raw is not None else ""
    if text and text.split("\n", 1)[0].strip() == header:
        return {"cache": text, "scales": scales_of(text), "batches": 0, "is_from_cache": True}
    if text:
        log(logger, "WARNING", f"Calibration table does not match calibrator algorithm type or version ({header}).")
    largest: Dict[str, float] = {tensor.name: 0.0 for tensor in inputs}
    batches = 0
    while True:
        addresses = drive.call("get_batch", lambda: calibrator.get_batch([tensor.name for tensor in inputs]))
        if addresses is None or len(addresses) == 0:
            break
        assert len(addresses) >= len(inputs), "segfault: get_batch gave fewer addresses than there are inputs"
        for tensor, address in zip(inputs, addresses):
            kind = np.dtype(NUMPY[tensor.dtype.name])
            size = int(np.prod(shapes[tensor.name], dtype=np.int64)) * kind.itemsize
            values = module._cuda.view(int(address), size).view(kind)
            largest[tensor.name] = max(largest[tensor.name], float(np.abs(values.astype(np.float64)).max()))
        batches += 1
    if not batches:
        return {"cache": "", "scales": {}, "batches": 0, "is_from_cache": False}
    lines = [f"{name}: {_hex(value / 127)}" for name, value in largest.items()]
    text = "\n".join([header, *lines]) + "\n"
    drive.call("write_calibration_cache", lambda: calibrator.write_calibration_cache(memoryview(text.encode())))
    return {"cache": text, "scales": scales_of(text), "batches": batches, "is_from_cache": False}


def scales_of(text: str) -> Dict[str, str]:
    """The hex of each tensor's scale; the last ':' of a line parts it."""
    found = (re.match(r"^(.+): ?([0-9a-fA-F]+)$", line) for line in text.splitlines()[1:])
    return {match.group(1): match.group(2) for match in found if match}


def _hex(scale: float) -> str:
    return f"{struct.unpack('>I', struct.pack('>f', scale))[0]:x}"


class _Drive:
    """Calls callbacks as that version does: 8.2 has no try, later ones print and go on as if there were no more."""

    def __init__(self, module: Any, calibrator: Any) -> None:
        self._is_bare = module._surface == "8.2"
        self._calibrator = calibrator

    def call(self, name: str, function: Callable[[], Any], otherwise: Any = None) -> Any:
        if not self._is_bare:
            return call_back(function, name, otherwise)
        try:
            return function()
        except Exception as error:
            raise AssertionError(f"std::terminate: {name} raised {error!r}, and nothing catches it") from error
