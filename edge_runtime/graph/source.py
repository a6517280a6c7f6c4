"""Model files as bytes: parsing, hashing, and external data that never leaves the model's folder."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import stat
from collections import defaultdict
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, Tuple

import onnx
from google.protobuf.message import DecodeError

from edge_runtime.errors import ModelError, UnsupportedModelError
from edge_runtime.graph.topology import node_graphs

Files = Tuple[Tuple[str, str], ...]
Slice = Tuple[int, int, onnx.TensorProto]  # start and end of a tensor's values in a file

LIMIT_NBYTES = 2**31 - 1  # protobuf's own limit for one message
LARGEST_TENSOR_NBYTES = 2**31 - 2**20  # one tensor is a message too, with a name
_CHUNK_NBYTES = 1 << 20

_BITS: Dict[int, int] = {
    onnx.TensorProto.BOOL: 8,
    onnx.TensorProto.UINT8: 8,
    onnx.TensorProto.INT8: 8,
    onnx.TensorProto.UINT16: 16,
    onnx.TensorProto.INT16: 16,
    onnx.TensorProto.FLOAT16: 16,
    onnx.TensorProto.BFLOAT16: 16,
    onnx.TensorProto.UINT32: 32,
    onnx.TensorProto.INT32: 32,
    onnx.TensorProto.FLOAT: 32,
    onnx.TensorProto.UINT64: 64,
    onnx.TensorProto.INT64: 64,
    onnx.TensorProto.DOUBLE: 64,
    onnx.TensorProto.COMPLEX64: 64,
    onnx.TensorProto.COMPLEX128: 128,
}


def read_source(path: Path) -> Tuple[onnx.ModelProto, Files]:
    """The model of a file with all its weights inside, and the SHA-256 of every file it came from.

    Raises:
        ModelError: a file is missing, empty, truncated, not ONNX or outside the model's folder.
        UnsupportedModelError: the file itself or one tensor is over 2 GiB, or the weights don't fit into memory.
    """
    data = _read_model(path)
    proto = parsed(data, str(path))
    files = {path.name: hashlib.sha256(data).hexdigest()}
    del data
    external = _external_tensors(proto, path)
    if sum(end - start for slices in external.values() for start, end, _ in slices) > _memory_nbytes():
        raise _too_large(path)
    for location, slices in external.items():
        with _opened_inside(path, location) as file:
            files[location] = _filled(slices, file, path)
    return proto, _ordered(files, path)


def source_digest(path: Path) -> Tuple[str, Files]:
    """The digest and the files that `load_model(path)` would report, without checking the model.

    Raises:
        ModelError: a file is missing, empty, truncated, not ONNX or outside the model's folder.
        UnsupportedModelError: a file or one tensor is too large.
    """
    data = _read_model(path)
    files = {path.name: hashlib.sha256(data).hexdigest()}
    for location in _external_tensors(parsed(data, str(path)), path):
        with _opened_inside(path, location) as file:
            files[location] = _filled([], file, path)
    ordered = _ordered(files, path)
    return digest_of(ordered), ordered


def digest_of(files: Files) -> str:
    """The SHA-256 over the digests of the model's file and, with their names, of those that it refers to."""
    (_, own), *others = files
    text = "".join(f"{name}\0{digest}\n" for name, digest in (("", own), *others))
    return hashlib.sha256(text.encode()).hexdigest()


def parsed(data: bytes, name: str) -> onnx.ModelProto:
    """The message in `data`; nothing in it is checked but that it has a graph.

    Raises:
        ModelError: it isn't an ONNX model.
    """
    if not data:
        raise ModelError(f"{name}: the file is empty; export the model again")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"{name}: its {len(data)} bytes are truncated or not an ONNX model (protobuf: {error}); export it again"
        ) from None
    if not proto.HasField("graph"):
        raise ModelError(f"{name}: no graph in its {len(data)} bytes: truncated, or not an ONNX model; export it again")
    return proto


def has_external_data(tensor: onnx.TensorProto) -> bool:
    """Whether the values of a tensor lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor with values in a model: initializers and attributes, in subgraphs and functions too."""
    owners = [proto.graph, *proto.functions]
    while owners:
        owner = owners.pop()
        if isinstance(owner, onnx.GraphProto):
            yield from owner.initializer
            for sparse in owner.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in owner.node:
            owners.extend(node_graphs(node))
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def tensor_nbytes(tensor: onnx.TensorProto) -> int | None:
    """Bytes that the raw data of a tensor take; None for packed and text types."""
    bits = _BITS.get(tensor.data_type)
    return None if bits is None else math.prod(tensor.dims) * bits // 8


def stored_nbytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the values in a tensor would take as raw data, in whatever fields they are."""
    count = max(
        map(len, (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data))
    )
    parts = 2 if tensor.data_type in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128) else 1
    return len(tensor.raw_data) + count * _BITS.get(tensor.data_type, 0) // 8 // parts


def _read_model(path: Path) -> bytes:
    try:
        if not path.is_file():
            problem = "isn't a file" if path.exists() else "no such file"
            raise ModelError(f"{path}: {problem}; give the path of an ONNX model")
        if path.stat().st_size > LIMIT_NBYTES:
            raise UnsupportedModelError(f"{path}: over 2 GiB; export the model with its weights as external data")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror})") from error


def _too_large(path: Path) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{path}: its external data takes more than the {_memory_nbytes():,} bytes of memory of this machine"
    )


def _memory_nbytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _ordered(files: Dict[str, str], path: Path) -> Files:
    """The model first, then its external files by name."""
    return tuple(sorted(files.items(), key=lambda item: (item[0] != path.name, item[0])))


def _external_tensors(proto: onnx.ModelProto, path: Path) -> Dict[str, List[Slice]]:
    """The tensors with external data by the location of their file, written without `.` and doubled slashes."""
    found: Dict[str, List[Slice]] = defaultdict(list)
    for tensor in all_tensors(proto):
        if has_external_data(tensor):
            offset, length = slice_of(tensor, str(path))
            found[location_of(tensor, str(path))].append((offset, offset + length, tensor))
    return dict(sorted(found.items()))


def location_of(tensor: onnx.TensorProto, model: str) -> str:
    """The file, relative to the model's folder, that holds the values of a tensor.

    Raises:
        ModelError: it isn't inside that folder.
    """
    text = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or text.startswith("/") or ".." in parts or "\0" in text or "\\" in text:
        raise ModelError(
            f"{model}: external data of tensor {tensor.name!r} is at {text!r}; "
            "expected a relative path inside the model's folder"
        )
    return "/".join(parts)


@contextlib.contextmanager
def _opened_inside(path: Path, location: str) -> Iterator[BinaryIO]:
    """The file at `location` in the folder of the model, reached through no symbolic link."""
    *folders, last = location.split("/")
    no_link = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for name in folders:
                child = os.open(name, no_link | os.O_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = child
            descriptor = os.open(last, no_link | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        raise ModelError(f"{path}: external data {location!r} is missing; put it beside the model") from None
    except OSError as error:
        raise ModelError(
            f"{path}: external data {location!r} can't be opened ({error.strerror}); "
            "expected a regular file in the model's folder, not a symbolic link"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelError(f"{path}: external data {location!r} isn't a regular file")
    with open(descriptor, "rb") as file:  # noqa: PTH123
        yield file


def slice_of(tensor: onnx.TensorProto, model: str) -> Tuple[int, int]:
    """Offset and length in bytes of a tensor's values in their file.

    Raises:
        ModelError: they aren't numbers, or the length isn't that of the tensor's shape.
        UnsupportedModelError: the length is over 2 GiB.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{model}: external data of tensor {tensor.name!r}"
    for key in ("offset", "length"):
        value = entries.get(key, "0")
        if not (value.isascii() and value.isdigit() and len(value) < 19):
            raise ModelError(f"{where}: {key} is {value[:40]!r}; expected a number of bytes")
    expected = tensor_nbytes(tensor)
    if expected is None and "length" not in entries:
        raise ModelError(f"{where}: no length, and its data type {tensor.data_type} doesn't tell one")
    length = int(entries.get("length", max(expected or 0, 0)))
    if expected is not None and length != expected:
        raise ModelError(f"{where}: expected {expected} bytes for shape {list(tensor.dims)}, got a length of {length}")
    if length > LARGEST_TENSOR_NBYTES:
        raise UnsupportedModelError(f"{where}: {length:,} bytes; expected at most 2 GiB in one tensor")
    return int(entries.get("offset", 0)), length


def refer(tensor: onnx.TensorProto, location: str, offset: int, nbytes: int) -> None:
    """Say of a tensor that its values lie in another file."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", nbytes)):
        tensor.external_data.add(key=key, value=str(value))


def _filled(slices: List[Slice], file: BinaryIO, path: Path) -> str:
    """Give tensors their values out of an external file that is read once, and return its SHA-256."""
    size = os.fstat(file.fileno()).st_size
    if size > _memory_nbytes():
        raise _too_large(path)
    digest = hashlib.sha256()
    for group in _overlapping(slices):
        start, end = group[0][0], max(end for _, end, _ in group)
        if end <= size:
            _hash(file, start - file.tell(), digest)
            _fill(group, file.read(end - start), digest)
        if file.tell() < end:
            raise ModelError(
                f"{path}: external data of tensor {group[0][2].name!r} ends at byte {end} of a file of "
                f"{size} bytes; the file is truncated"
            )
    _hash(file, size - file.tell(), digest)
    return digest.hexdigest()


def _overlapping(slices: List[Slice]) -> List[List[Slice]]:
    """The slices in the order of the file; those that overlap are in one group."""
    groups: List[List[Slice]] = []
    reached = 0
    for item in sorted(slices, key=lambda item: item[:2]):
        if not groups or item[0] >= reached:
            groups.append([])
        groups[-1].append(item)
        reached = max(reached, item[1])
    return groups


def _fill(group: List[Slice], content: bytes, digest: Any) -> None:
    digest.update(content)
    first = group[0][0]
    for start, end, tensor in group:
        tensor.raw_data = content[start - first : end - first]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _hash(file: BinaryIO, nbytes: int, digest: Any) -> None:
    for start in range(0, nbytes, _CHUNK_NBYTES):
        digest.update(file.read(min(nbytes - start, _CHUNK_NBYTES)))
