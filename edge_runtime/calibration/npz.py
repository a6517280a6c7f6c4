"""Samples from an .npz file, read one at a time."""

from __future__ import annotations

import contextlib
import hashlib
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Mapping, Sequence

import numpy as np

from edge_runtime.calibration.feeds import (
    as_input,
    check_dtype,
    check_names,
    check_shape,
    check_target_dtype,
    is_target,
    make_sample,
    shape_text,
    unknown_name,
)
from edge_runtime.calibration.sample import Array, Sample
from edge_runtime.errors import DataError
from edge_runtime.tensors import DYNAMIC, TensorSpec

_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile and NumPy raise on bytes that aren't theirs.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    ValueError,
    EOFError,
    LookupError,
    struct.error,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
)


@dataclass(frozen=True)
class _Member:
    """An array of the archive; a sample takes `rows` rows of it, or one entry without axis 0 where that is 0."""

    info: zipfile.ZipInfo
    dtype: np.dtype[Any]
    shape: Sequence[int]
    is_fortran: bool
    rows: int = 0

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self.shape[0] // max(self.rows, 1)

    @property
    def sample_shape(self) -> Sequence[int]:
        """The shape of what a sample gets."""
        return (self.rows, *self.shape[1:]) if self.rows else self.shape[1:]


class NpzSource:
    """The samples in an .npz file: one array per model input under its exact name, first axis samples.

    An array of the model's own rank has the batch axis first: a sample is one row of it (as many as the model's batch
    axis is fixed at). One of one rank more holds a whole feed per sample. All inputs take one form; scalar inputs are
    `[N]` in both. `label` (class ids: `[N]`, or `[N, batch]` for whole feeds) and `expected/<output name>` are
    targets, unless an input has that name. Arrays are streamed, C order and uncompressed or deflated.
    """

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        self._path = path
        self._inputs = tuple(inputs)

    def key(self) -> Dict[str, Any]:
        """The file's digest.

        Raises:
            DataError: it can't be read.
        """
        digest = hashlib.sha256()
        with self._translated(), self._path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return {"kind": "npz", "sha256": digest.hexdigest()}

    def verified_key(self, content: str | None = None) -> Dict[str, Any]:  # noqa: ARG002
        """The key: it pins the samples down."""
        return self.key()

    def count(self) -> int:
        """The number of samples, after a check of every array's name, type and shape.

        Raises:
            DataError: the file, the array, and what was expected.
        """
        with self._translated(), zipfile.ZipFile(self._path) as archive:
            return self._layout(archive)[self._inputs[0].name].samples

    def __iter__(self) -> Iterator[Sample]:
        """The samples in the file's order; their arrays are read-only.

        Raises:
            DataError: as `count`, or a value is NaN or infinite, or the file is damaged.
        """
        with self._translated(), zipfile.ZipFile(self._path) as archive, contextlib.ExitStack() as streams:
            layout = self._layout(archive)
            names = list(layout)
            entries = [_entries(streams.enter_context(archive.open(member.info)), member) for member in layout.values()]
            for index, arrays in enumerate(zip(*entries)):
                yield self._sample(dict(zip(names, arrays)), index)

    def _sample(self, arrays: Mapping[str, Array], index: int) -> Sample:
        where = f"{self._path}, sample {index}"
        feeds = {spec.name: as_input(arrays[spec.name], spec, f"{where}: array {spec.name!r}") for spec in self._inputs}
        return make_sample(feeds, {name: arrays[name] for name in arrays if name not in feeds}, self._inputs, where)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            if not self._path.is_file():
                raise DataError(f"{self._path}: no such file; expected an .npz file of samples")
            yield
        except PermissionError as error:
            raise DataError(f"{self._path}: can't be read ({error.strerror})") from error
        except _BROKEN as error:
            raise DataError(f"{self._path}: not a sound .npz file ({error}); write it with numpy.savez") from error

    def _layout(self, archive: zipfile.ZipFile) -> Dict[str, _Member]:
        """All arrays, checked against the model and against each other, inputs first."""
        if not self._inputs:
            raise DataError(f"{self._path}: the model has no inputs, so no samples fit it")
        members = _members(archive, str(self._path))
        check_names(members, self._inputs, str(self._path))
        specs = {spec.name: spec for spec in self._inputs}
        layout = {name: self._input(members[name], spec) for name, spec in specs.items()}
        self._check_one_form(layout)
        first = layout[next((spec.name for spec in self._inputs if spec.shape), self._inputs[0].name)]
        for name, member in members.items():
            if name not in specs:
                layout[name] = self._target(name, member, first)
        return layout

    def _input(self, member: _Member, spec: TensorSpec) -> _Member:
        where = f"{self._path}: array {spec.name!r}"
        check_dtype(member.dtype, spec, where)
        rank = len(member.shape)
        if rank not in (len(spec.shape), len(spec.shape) + 1) or not rank:
            whole = shape_text((DYNAMIC, *spec.shape))
            own = f"{shape_text(spec.shape)} with the samples along axis 0, or " if spec.shape else ""
            raise DataError(f"{where} has shape {shape_text(member.shape)}, expected {own}{whole}")
        if rank == len(spec.shape):
            member = _with_rows(member, 1 if spec.shape[0] == DYNAMIC else max(spec.shape[0], 1))
            if member.shape[0] % member.rows:
                raise DataError(f"{where} has {member.shape[0]} rows, expected a multiple of the batch, {member.rows}")
        if not member.samples:
            raise DataError(f"{where} has shape {shape_text(member.shape)}: no sample; expected at least one")
        check_shape(member.sample_shape, spec, f"{where}: a sample")
        return member

    def _check_one_form(self, layout: Mapping[str, _Member]) -> None:
        first, *others = self._inputs
        for spec in others:
            expected, got = layout[first.name].samples, layout[spec.name].samples
            if expected != got:
                raise DataError(
                    f"{self._path}: array {spec.name!r} has {got} samples, expected {expected} as in {first.name!r}"
                )
        forms = {bool(layout[spec.name].rows): spec.name for spec in self._inputs if spec.shape}
        if len(forms) == 2:
            raise DataError(
                f"{self._path}: array {forms[True]!r} has samples along the batch axis, {forms[False]!r} a whole feed "
                "per sample; expected one form for all inputs"
            )

    def _target(self, name: str, member: _Member, first: _Member) -> _Member:
        if not is_target(name):
            raise unknown_name(name, self._inputs, str(self._path))
        where = f"{self._path}: array {name!r}"
        check_target_dtype(name, member.dtype, where)
        rows = member.shape[0] if member.shape else 0
        if rows not in (first.samples, first.samples * max(first.rows, 1)):
            raise DataError(f"{where} has shape {shape_text(member.shape)}, expected {first.samples} samples in axis 0")
        return _with_rows(member, rows // first.samples) if first.rows else member


def _with_rows(member: _Member, rows: int) -> _Member:
    return _Member(member.info, member.dtype, member.shape, member.is_fortran, rows)


def _members(archive: zipfile.ZipFile, where: str) -> Dict[str, _Member]:
    members: Dict[str, _Member] = {}
    for info in archive.infolist():
        if info.filename.endswith("/"):
            continue
        name = info.filename[:-4] if info.filename.endswith(".npy") else info.filename
        if name in members:
            raise DataError(f"{where}: array {name!r} is there twice; expected one array per input")
        if info.compress_type not in _READABLE:
            raise DataError(f"{where}: array {name!r} has an unknown compression; write it with numpy.savez_compressed")
        members[name] = _read_header(archive, info, f"{where}: array {name!r}")
    return members


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> _Member:
    with archive.open(info) as stream:
        member = _Member(info, *_header(stream, where))
        size = stream.tell() + math.prod(member.shape) * member.dtype.itemsize
    if info.file_size != size:
        raise DataError(f"{where} takes {info.file_size} bytes, expected {size} by its header; the file is damaged")
    return member


def _header(stream: IO[bytes], where: str) -> tuple[np.dtype[Any], Sequence[int], bool]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"{where} has .npy version {version}; expected a plain array of numbers")
    shape, is_fortran, dtype = readers[version](stream)
    if dtype.hasobject or dtype.names is not None or not dtype.itemsize:
        raise DataError(f"{where} holds Python objects or records ({dtype}); expected a plain array of numbers")
    if any(size < 0 for size in shape):
        raise DataError(f"{where} has shape {shape_text(shape)}; expected sizes from 0 on")
    return dtype, shape, is_fortran


def _entries(stream: IO[bytes], member: _Member) -> Iterator[Array]:
    """What each sample gets of an array, read as it is asked for; the archive checks its CRC at the end."""
    _header(stream, member.info.filename)
    if member.is_fortran and len(member.shape) > 1:
        whole = np.frombuffer(stream.read(), member.dtype).reshape(member.shape, order="F")
        for index in range(member.samples):
            yield whole[index * member.rows : (index + 1) * member.rows] if member.rows else whole[index]
        return
    nbytes = math.prod(member.sample_shape) * member.dtype.itemsize
    for _ in range(member.samples):
        yield np.frombuffer(stream.read(nbytes), member.dtype).reshape(member.sample_shape)
