"""What a server answered, checked before it is believed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InvalidRequestError, RemoteError
from edge_runtime.tensors import DYNAMIC, DType, TensorSpec, element_count, float32_from_bfloat16
from edge_runtime.wire.elements import strings_array, strings_from_bytes

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_SUPPORTED = tuple(member.value for member in DType)


@dataclass(frozen=True)
class Origin:
    """Who answered, and with what status: part of every complaint."""

    server: str
    status: int | str

    def broken(self, problem: str) -> RemoteError:
        """The error for an answer that can't be used."""
        return RemoteError(
            f"{self.server}: broken answer: {problem}; is this a server of the Open Inference Protocol?", self.status
        )


def json_object(text: Bytes, origin: Origin) -> Dict[str, Any]:
    """The JSON object in an answer.

    Raises:
        RemoteError: it is anything else.
    """
    try:
        content = json.loads(text.tobytes())
    except (ValueError, RecursionError) as error:
        raise origin.broken(f"not JSON ({str(error)[:80]})") from None
    if not isinstance(content, dict):
        raise origin.broken(f"expected a JSON object, got {type(content).__name__}")
    return content


def tensor_rows(content: Mapping[str, Any], key: str, origin: Origin) -> List[Dict[str, Any]]:
    """The descriptions of tensors below `key`, each with a name of its own.

    Raises:
        RemoteError: they are missing, malformed or named alike.
    """
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise origin.broken(f"expected a list of objects in {key!r}")
    names = [row.get("name") for row in rows]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise origin.broken(f"expected distinct names in {key!r}, got {str(names)[:200]}")
    return rows


def tensor_spec(row: Mapping[str, Any], smallest: int, origin: Origin) -> TensorSpec:
    """The spec in a tensor's description, whose sizes are `smallest` (-1 where they may be dynamic) or more.

    Raises:
        RemoteError: a data type that we don't know, or no such shape.
    """
    name, shape = row["name"], row.get("shape")
    if row.get("datatype") not in _SUPPORTED:
        raise origin.broken(f"tensor {name!r} has data type {row.get('datatype')!r}, expected one of {_SUPPORTED}")
    if not isinstance(shape, list) or not all(type(size) is int and smallest <= size < 2**63 for size in shape):
        raise origin.broken(f"tensor {name!r} has shape {str(shape)[:200]}, expected a list of sizes")
    return TensorSpec(name, DType(row["datatype"]), tuple(shape))


def input_specs(metadata: Mapping[str, Any], server: str) -> Tuple[TensorSpec, ...]:
    """The inputs that a model's metadata describes.

    Raises:
        RemoteError: it doesn't, or names a data type that we don't know.
    """
    origin = Origin(server, 200)
    return tuple(tensor_spec(row, DYNAMIC, origin) for row in tensor_rows(metadata, "inputs", origin))


def array_from_bytes(data: Bytes, spec: TensorSpec, origin: Origin) -> Array:
    """A tensor that the caller owns, from its little-endian bytes.

    It lies where they do, if nobody else holds them and they are most of the memory that it would keep. BF16 becomes
    float32, and BYTES objects.

    Raises:
        RemoteError: their number isn't that of the shape.
    """
    if spec.dtype is DType.BYTES:
        return _strings(data, spec, origin)
    expected = element_count(spec.shape) * spec.dtype.itemsize
    if data.size != expected:
        raise origin.broken(f"output {spec.name!r} of shape {list(spec.shape)} has {data.size} bytes, not {expected}")
    values: Array = data != 0 if spec.dtype is DType.BOOL else data.view(spec.dtype.numpy)
    if spec.dtype is not DType.BOOL and not (
        values.flags.writeable and values.flags.aligned and 2 * data.size >= _memory_nbytes(data)
    ):
        values = data.copy().view(spec.dtype.numpy)
    return float32_from_bfloat16(values.reshape(spec.shape)) if spec.dtype is DType.BF16 else values.reshape(spec.shape)


def _strings(data: Bytes, spec: TensorSpec, origin: Origin) -> Array:
    try:
        return strings_from_bytes(data, spec.shape, f"output {spec.name!r}")
    except InvalidRequestError as error:
        raise origin.broken(str(error)) from None


def _memory_nbytes(data: Bytes) -> int:
    """Size of what an array keeps alive."""
    return data.base.nbytes if isinstance(data.base, np.ndarray) else data.nbytes


def array_from_list(data: object, spec: TensorSpec, origin: Origin) -> Array:
    """A tensor from a flat or nested list of numbers, or for BYTES of text or bytes.

    Raises:
        RemoteError: a ragged list, another number of elements, or values that the data type can't hold.
    """
    if spec.dtype in (DType.BYTES, DType.BF16):
        return _strings_from_list(data, spec, origin)
    try:
        values = np.array(data if isinstance(data, list) else None)
        if values.dtype.kind == "f" and spec.dtype is DType.UINT64:
            values = _exact(data)
    except (ValueError, OverflowError):
        raise origin.broken(f"output {spec.name!r}: its data is ragged or out of range") from None
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[spec.dtype.numpy.kind]
    if values.size and (values.dtype.kind not in kinds or not _holds(spec.dtype, values)):
        raise origin.broken(f"output {spec.name!r}: its data isn't {spec.dtype.value}")
    if values.size != element_count(spec.shape):
        raise origin.broken(f"output {spec.name!r} of shape {list(spec.shape)} has {values.size} elements")
    with np.errstate(over="ignore"):
        return values.astype(spec.dtype.numpy).reshape(spec.shape)


def _strings_from_list(data: object, spec: TensorSpec, origin: Origin) -> Array:
    values = data if isinstance(data, list) else [None]
    while values and all(isinstance(value, list) for value in values):
        values = [inner for value in values for inner in value]
    if spec.dtype is not DType.BYTES or not all(isinstance(value, (str, bytes)) for value in values):
        raise origin.broken(f"output {spec.name!r}: its data isn't {spec.dtype.value}")
    if len(values) != element_count(spec.shape):
        raise origin.broken(f"output {spec.name!r} of shape {list(spec.shape)} has {len(values)} elements")
    elements = [value.encode(errors="surrogatepass") if isinstance(value, str) else value for value in values]
    return strings_array(elements, spec.shape)


def _exact(data: object) -> Array:
    """Integers on both sides of 2**63, of which NumPy makes floats, as uint64; objects if any is no such integer."""
    values = np.array(data, dtype=object)
    is_exact = all(type(value) is int and 0 <= value < 2**64 for value in values.flat)
    return values.astype(np.uint64) if is_exact else values


def _holds(dtype: DType, values: Array) -> bool:
    if dtype.numpy.kind not in "iu":
        return True
    limits = np.iinfo(dtype.numpy)
    return bool(int(values.min()) >= limits.min and int(values.max()) <= limits.max)
