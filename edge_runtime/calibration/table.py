"""Scales of activations, and TensorRT's calibration cache as their file."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np

from edge_runtime.errors import CalibrationError, nearest
from edge_runtime.plan.files import make_folder, write_atomically

DEFAULT_ALGORITHM = "EntropyCalibration2"
DEFAULT_TENSORRT_VERSION = "10.3.0"

_LIMIT_NBYTES = 64 << 20  # of a cache: a million tensors with long names
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
_ALGORITHM = re.compile(r"[A-Za-z0-9_]+")
_HEADER = re.compile(r"TRT-[0-9]+-([A-Za-z0-9_]+)")
_HEX = re.compile(r"[0-9A-Fa-f]{1,8}")
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:[.+a-z].*)?", re.ASCII)


@dataclass(frozen=True)
class CalibrationTable:
    """The scale (largest |x| to represent, over 127) of each tensor by its ONNX name, held as a float32 value.

    Raises:
        CalibrationError: a scale is negative, NaN or above float32's range, or a name can't stand in a cache.
    """

    scales: Mapping[str, float]
    algorithm: str = DEFAULT_ALGORITHM

    def __post_init__(self) -> None:
        if not _ALGORITHM.fullmatch(self.algorithm):
            raise CalibrationError(f"algorithm {self.algorithm!r}: expected letters, digits and underscores")
        object.__setattr__(self, "scales", {name: _scale(name, value) for name, value in self.scales.items()})

    def to_cache_text(self, tensorrt_version: str = DEFAULT_TENSORRT_VERSION) -> str:
        """TensorRT's calibration cache, with the header of that version (which TensorRT compares with its own).

        Raises:
            CalibrationError: the version isn't major.minor.patch.
        """
        lines = [f"TRT-{_version_number(tensorrt_version)}-{self.algorithm}"]
        lines += [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in self.scales.items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_cache_text(cls, text: str, source: str) -> CalibrationTable:
        """The table in a calibration cache of any TensorRT version; `source` names it in errors.

        Raises:
            CalibrationError: the header or a line isn't of the format, a tensor is there twice, or a scale is no scale.
        """
        header, *lines = text.split("\n")
        match = _HEADER.fullmatch(header.rstrip())
        if match is None:
            raise CalibrationError(
                f"{source}: not a calibration cache: its first line is {_shortened(header)}, "
                f"expected TRT-<version>-<algorithm> such as TRT-100300-{DEFAULT_ALGORITHM}; calibrate again"
            )
        scales: Dict[str, float] = {}
        for number, line in enumerate(lines, start=2):
            if not line.strip():
                continue
            name, scale = _entry(line, f"{source}, line {number}")
            if name in scales:
                raise CalibrationError(f"{source}, line {number}: tensor {name!r} is there twice; calibrate again")
            scales[name] = scale
        return cls(scales, match.group(1))

    @classmethod
    def read(cls, path: Path) -> CalibrationTable:
        """The table in a cache file.

        Raises:
            CalibrationError: the file can't be read, or isn't a calibration cache.
        """
        try:
            if path.exists() and not path.is_file():
                raise CalibrationError(f"{path}: isn't a file; give the path of a calibration cache")
            if path.stat().st_size > _LIMIT_NBYTES:
                raise CalibrationError(f"{path}: over {_LIMIT_NBYTES >> 20} MiB, which no calibration cache takes")
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise CalibrationError(f"{path}: calibration cache can't be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise CalibrationError(f"{path}: not a calibration cache: not UTF-8 text ({error.reason})") from error
        return cls.from_cache_text(text, str(path))

    def write(self, path: Path, tensorrt_version: str = DEFAULT_TENSORRT_VERSION) -> None:
        """Replaces `path` by the cache text, whole or not at all; makes its folder.

        Raises:
            CalibrationError: the file can't be written.
        """
        data = self.to_cache_text(tensorrt_version).encode("utf-8")
        try:
            make_folder(path.parent)
            write_atomically(path, data)
        except OSError as error:
            raise CalibrationError(f"{path}: calibration cache can't be written ({error.strerror})") from error


def import_table(path: Path, tensors: Sequence[str]) -> Tuple[CalibrationTable, Tuple[str, ...]]:
    """Usable scales for `tensors` from a cache that TensorRT, trtexec or Polygraphy wrote, and the names it lacks.

    Raises:
        CalibrationError: the file isn't a calibration cache, or has none of the tensors.
    """
    table = CalibrationTable.read(path)
    found = {name: usable_scale(table.scales[name]) for name in tensors if name in table.scales}
    if not found:
        first = f"{tensors[0]!r}: {nearest(tensors[0], table.scales)[:200]}" if tensors else "any"
        raise CalibrationError(
            f"{path}: its {len(table.scales)} tensors are none of the {len(tensors)} that need a scale; "
            f"it has no {first}; give a cache of this model"
        )
    return CalibrationTable(found, table.algorithm), tuple(name for name in tensors if name not in found)


def usable_scale(scale: float) -> float:
    """A scale that TensorRT and ONNX Runtime take.

    Zero, from a tensor of nothing but zeros, becomes that of the range [-1, 1]: every scale represents it exactly, and
    zero itself is no scale to TensorRT. None is below float32's smallest normal number, so that 1/scale is finite.
    """
    return max(scale or 1.0 / 127, _SMALLEST_SCALE)


def _scale(name: str, value: float) -> float:
    if not name or "\n" in name or not _is_utf8(name):
        raise CalibrationError(f"tensor {name!r}: a calibration cache can't hold this name; rename it in the model")
    with np.errstate(over="ignore", under="ignore"):
        scale = float(np.float32(value))
    if not math.isfinite(scale) or math.copysign(1.0, scale) < 0:
        raise CalibrationError(f"tensor {name!r} has scale {value}; expected a float32 number from 0 on")
    return scale


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _entry(line: str, where: str) -> Tuple[str, float]:
    name, colon, digits = line.rpartition(":")  # names may hold colons too
    if not colon or not name or not _HEX.fullmatch(digits.strip()):
        raise CalibrationError(f"{where}: got {_shortened(line)}, expected <tensor name>: <up to 8 hex digits>")
    (scale,) = struct.unpack(">f", bytes.fromhex(digits.strip().zfill(8)))
    if not math.isfinite(scale) or math.copysign(1.0, scale) < 0:
        raise CalibrationError(f"{where}: tensor {name!r} has scale {scale}; expected a number from 0 on")
    return name, scale


def _version_number(version: str) -> int:
    """TensorRT's NV_TENSORRT_VERSION (NvInferVersion.h): 8.2.5 is 8205, 10.3.0 is 100300."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise CalibrationError(f"TensorRT version {version!r}: expected major.minor.patch such as 10.3.0")
    major, minor, patch = (int(part or 0) for part in match.groups())
    return major * (10_000 if major >= 10 else 1_000) + minor * 100 + patch


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
