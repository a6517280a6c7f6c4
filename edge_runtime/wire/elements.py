"""Tensors of BYTES, as messages have them.

An element is the length of its bytes (4 bytes, little-endian), then these; there is nothing between elements.
"""

from __future__ import annotations

import struct
from typing import Any, List, Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import InvalidRequestError
from edge_runtime.tensors import Shape, element_count

Array = npt.NDArray[Any]

_LENGTH = struct.Struct("<I")


def strings_from_bytes(data: Any, shape: Shape, what: str) -> Array:
    """The elements of a tensor of BYTES, each a copy of its bytes; `what` names the tensor.

    Raises:
        InvalidRequestError: a length is cut short, reaches past the end, or there are more or fewer elements.
    """
    view, count = memoryview(data).cast("B"), element_count(shape)
    check_strings_nbytes(view.nbytes, shape, what)
    elements: List[bytes] = []
    position, end, read = 0, view.nbytes, _LENGTH.unpack_from
    for index in range(count):
        start = position + _LENGTH.size
        if start > end:
            raise InvalidRequestError(
                f"{what}: expected {count} elements for {list(shape)}, got {index} in its {end} bytes"
            )
        position = start + read(view, position)[0]
        if position > end:
            raise InvalidRequestError(
                f"{what}: element {index} is said to have {position - start} bytes, but {end - start} are left"
            )
        elements.append(bytes(view[start:position]))
    if position != end:
        raise InvalidRequestError(
            f"{what}: {end - position} bytes are left behind its {count} elements; shape {list(shape)} has no more"
        )
    return strings_array(elements, shape)


def check_strings_nbytes(nbytes: int, shape: Shape, what: str) -> None:
    """Raises InvalidRequestError if so few bytes can't be a tensor of BYTES of that shape, whatever is in them."""
    least = element_count(shape) * _LENGTH.size
    if nbytes < least:
        raise InvalidRequestError(
            f"{what}: expected {least} bytes or more for BYTES {list(shape)}, the lengths alone, got {nbytes}"
        )


def strings_array(elements: Sequence[bytes], shape: Shape) -> Array:
    """Elements as an array of objects; there are as many as the shape has."""
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)


def strings_from_values(values: Sequence[Any], shape: Shape, what: str) -> Array:
    """A tensor of BYTES from the strings of a JSON text; as many as the shape has.

    Raises:
        InvalidRequestError: one isn't a string, or has half a surrogate pair.
    """
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidRequestError(
                f"{what}: element {index}: expected a string for BYTES, got {type(value).__name__}"
            )
    try:
        return strings_array([value.encode() for value in values], shape)
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what}: a string has half a surrogate pair, which UTF-8 can't hold") from None


def texts_from_strings(array: Array) -> List[str]:
    """The elements of a tensor of BYTES as text.

    Raises:
        UnicodeDecodeError: one isn't UTF-8.
    """
    return [element.decode() for element in array.ravel()]


def on_the_wire(array: Array) -> Array:
    """What a message has of a tensor: the array itself, or the bytes of its elements with their lengths."""
    if array.dtype.kind != "O":
        return array
    pieces: List[bytes] = []
    for element in array.ravel():
        pieces += (_LENGTH.pack(len(element)), element)
    return np.frombuffer(b"".join(pieces), np.uint8)
