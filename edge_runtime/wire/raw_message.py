"""A `ModelInferRequest` cut into what it says and its tensors' bytes, and the bytes of an answer put together.

Protobuf writes the fields of a message in the order of their numbers, so `raw_input_contents` (7) come last: what is
before them is short, and the same from request to request. Encoding: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from typing import Any, Iterator, List, Tuple

from edge_runtime.errors import InvalidRequestError

_RAW_INPUT = 7 << 3 | 2
_RAW_OUTPUT = 6 << 3 | 2
_LENGTH_DELIMITED = 2
_VARINT = 0
_FIXED_NBYTES = {1: 8, 5: 4}  # by wire type
_MOST_FIELDS = 256
_MOST_PARTS = 4096
_LONGEST_VARINT = 10
_INPUT, _OUTPUT = 5 << 3 | 2, 6 << 3 | 2  # of a ModelInferRequest


def split_message(data: memoryview) -> Tuple[memoryview, List[memoryview]] | None:
    """What is before the first raw tensor, and the bytes of each, as views; None for a message of another form.

    `None` says nothing of the message but that protobuf itself must read it.
    """
    end = len(data)
    position = 0
    head_end = -1
    raw: List[memoryview] = []
    try:
        for _ in range(_MOST_FIELDS):
            if position >= end:
                break
            tag = data[position]
            size, start = _varint(data, position + 1)
            if tag == _RAW_INPUT:
                if head_end < 0:
                    head_end = position
                raw.append(data[start : start + size])
            elif head_end >= 0 or tag & 7 != _LENGTH_DELIMITED or not 0 < tag >> 3 < 7:
                return None
            position = start + size
    except IndexError:
        return None
    return (data[:head_end], raw) if position == end and head_end > 0 else None


def _varint(data: memoryview, position: int) -> Tuple[int, int]:
    """The number at a position, and the position behind it."""
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while shift < 35:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise IndexError


def check_parts(data: memoryview) -> None:
    """Refuses a message of so many parts that making objects of them would keep everybody waiting.

    A small message can't have them. A tensor's own elements aren't counted.

    Raises:
        InvalidRequestError: it has more than 4,096 fields, or something in it has.
    """
    if len(data) <= 2 * _MOST_PARTS:
        return
    for tag, inner in _parts(data):
        if tag in (_INPUT, _OUTPUT) and len(inner) > 2 * _MOST_PARTS:
            for _ in _parts(inner):
                pass


def _parts(data: memoryview) -> Iterator[Tuple[int, memoryview]]:
    """Each field's tag and, of one with a length, what is in it; ends where protobuf itself must say what is wrong."""
    position = count = 0
    try:
        while position < len(data):
            count += 1
            if count > _MOST_PARTS:
                raise InvalidRequestError(f"a message of more than {_MOST_PARTS} fields")
            tag, position = _varint(data, position)
            if tag & 7 == _LENGTH_DELIMITED:
                size, start = _varint(data, position)
                position = start + size
                yield tag, data[start:position]
            else:
                position = _behind(data, tag & 7, position)
    except IndexError:
        return


def _behind(data: memoryview, kind: int, position: int) -> int:
    """The position behind a field without a length."""
    if kind == _VARINT:
        for end in range(position, position + _LONGEST_VARINT):
            if data[end] < 0x80:
                return end + 1
        raise IndexError
    return position + _FIXED_NBYTES.get(kind, 0)  # the begin or the end of a group has nothing


def joined_response(head: bytes, arrays: List[Any]) -> bytes:
    """A `ModelInferResponse`: its head as protobuf wrote it, and contiguous arrays as `raw_output_contents`."""
    pieces: List[Any] = [head]
    for array in arrays:
        pieces.append(raw_output_tag(array.nbytes))
        pieces.append(array)
    return b"".join(pieces)


def raw_output_tag(nbytes: int) -> bytes:
    """What goes before the bytes of an output."""
    return varint_field(_RAW_OUTPUT, nbytes)


def varint_field(tag: int, nbytes: int) -> bytes:
    """A tag below 128, and a number."""
    encoded = bytearray([tag])
    while nbytes >= 0x80:
        encoded.append(nbytes & 0x7F | 0x80)
        nbytes >>= 7
    encoded.append(nbytes)
    return bytes(encoded)
