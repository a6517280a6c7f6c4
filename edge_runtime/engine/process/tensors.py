"""How frames describe tensors: shapes, and the places of their values in shared memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Iterator, List, Sequence, Tuple

from edge_runtime.tensors import Shape

APART = 0xFFFFFFFF  # stands for a block: the values are in the frame's payload
_COUNTS = struct.Struct("<HH")
_BLOCK = struct.Struct("<I")
_PLACE = struct.Struct("<IQQ")


@dataclass(frozen=True)
class Place:
    """Where values begin: in a block of shared memory, or in the payload (`APART`), where they take `nbytes`."""

    block: int
    offset: int
    nbytes: int = 0


@dataclass(frozen=True)
class Answer:
    """What a run made: each output's place and shape, in order.

    `added` are blocks that the other side doesn't have yet, whose descriptors come with the frame; `dropped` are those
    that it needn't keep.
    """

    outputs: Tuple[Tuple[Place, Shape], ...]
    added: Tuple[int, ...] = ()
    dropped: Tuple[int, ...] = ()


def bytes_from_shapes(shapes: Sequence[Shape]) -> bytes:
    """Shapes as a frame's head has them."""
    return b"".join(struct.pack(f"<B{len(shape)}q", len(shape), *shape) for shape in shapes)


def shapes_from_bytes(head: bytes) -> List[Shape]:
    """The shapes that `bytes_from_shapes` wrote."""
    position, shapes = 0, []
    while position < len(head):
        shape, position = _shape_at(head, position)
        shapes.append(shape)
    return shapes


def _shape_at(head: bytes, position: int) -> Tuple[Shape, int]:
    rank = head[position]
    return struct.unpack_from(f"<{rank}q", head, position + 1), position + 1 + 8 * rank


def bytes_from_answer(answer: Answer) -> bytes:
    """An answer as a frame's head has it."""
    pieces = [_COUNTS.pack(len(answer.added), len(answer.dropped))]
    pieces += [_BLOCK.pack(number) for number in (*answer.added, *answer.dropped)]
    for place, shape in answer.outputs:
        pieces += [_PLACE.pack(place.block, place.offset, place.nbytes), bytes_from_shapes([shape])]
    return b"".join(pieces)


def answer_from_bytes(head: bytes) -> Answer:
    """The answer that `bytes_from_answer` wrote."""
    added, dropped = _COUNTS.unpack_from(head)
    position = _COUNTS.size + _BLOCK.size * (added + dropped)
    numbers = [number for (number,) in _BLOCK.iter_unpack(head[_COUNTS.size : position])]
    outputs = []
    while position < len(head):
        place = Place(*_PLACE.unpack_from(head, position))
        shape, position = _shape_at(head, position + _PLACE.size)
        outputs.append((place, shape))
    return Answer(tuple(outputs), tuple(numbers[:added]), tuple(numbers[added:]))


def pieces_of(payload: bytes, sizes: Sequence[int]) -> Iterator[memoryview]:
    """What a payload holds, one after the other."""
    view, position = memoryview(payload), 0
    for nbytes in sizes:
        yield view[position : position + nbytes]
        position += nbytes


def record_from_place(place: Place | None) -> Dict[str, int] | None:
    """A place as JSON has it; None stands for values that lie in no shared memory."""
    return None if place is None else {"block": place.block, "offset": place.offset}
