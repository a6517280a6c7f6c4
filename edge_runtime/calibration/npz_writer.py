"""Samples written as an .npz file that reads as the same samples."""

from __future__ import annotations

import contextlib
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, List, Mapping, Tuple

import numpy as np

from edge_runtime.calibration.feeds import EXPECTED, LABEL, shape_text
from edge_runtime.calibration.sample import Array, Sample
from edge_runtime.errors import DataError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_Form = Dict[str, Tuple[Any, Tuple[int, ...]]]


def write_samples(path: Path, samples: Iterable[Sample]) -> int:
    """Writes samples as whole feeds, one at a time, and gives their number; no more than one is held in memory.

    Raises:
        DataError: there is none, or they aren't all of one shape, or a target's name is an input's.
    """
    form: _Form = {}
    spools: List[BinaryIO] = []
    count = 0
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, contextlib.ExitStack() as stack:
        for sample in samples:
            arrays = _arrays(sample)
            if not count:
                form = _form(arrays)
                spools = [stack.enter_context(Path(folder, str(index)).open("w+b")) for index in range(len(form))]
            _check_form(_form(arrays), form, count)
            for name, spool in zip(form, spools):
                spool.write(np.ascontiguousarray(arrays[name]).tobytes())
            count += 1
        if not count:
            raise DataError("there is no held-out sample; expected at least one")
        _write_archive(path, form, spools, count)
    return count


def _arrays(sample: Sample) -> Mapping[str, Array]:
    targets = {f"{EXPECTED}{name}": array for name, array in (sample.expected or {}).items()}
    if sample.label is not None:
        targets[LABEL] = sample.label
    for name in targets:
        if name in sample.feeds:
            raise DataError(f"{name!r} is an input of the model and a target too, which one file can't hold")
    return {**sample.feeds, **targets}


def _form(arrays: Mapping[str, Array]) -> _Form:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def _check_form(got: _Form, expected: _Form, index: int) -> None:
    if got == expected:
        return
    for name in {**expected, **got}:
        here, first = got.get(name), expected.get(name)
        if here != first:
            texts = ["none" if one is None else f"{one[0]} {shape_text(one[1])}" for one in (first, here)]
            raise DataError(
                f"sample {index}: array {name!r}: expected {texts[0]} as in the first sample, got {texts[1]}: one file "
                "can't hold samples of several shapes; pad them to one"
            )


def _write_archive(path: Path, form: _Form, spools: Iterable[BinaryIO], count: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for (name, (dtype, shape)), spool in zip(form.items(), spools):
            info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as member:
                member.write(_header(dtype, (count, *shape)))
                spool.seek(0)
                shutil.copyfileobj(spool, member)


def _header(dtype: np.dtype[Any], shape: Tuple[int, ...]) -> bytes:
    """What comes before an array's values in a .npy file of version 2.0."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    text += b" " * (-(len(text) + 13) % 64) + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text
