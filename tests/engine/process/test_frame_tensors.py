from __future__ import annotations

from edge_runtime.engine.process.tensors import (
    APART,
    Answer,
    Place,
    answer_from_bytes,
    bytes_from_answer,
    bytes_from_shapes,
    shapes_from_bytes,
)


def test_shapes_come_back() -> None:
    shapes = [(), (1, 2, 3), (0,), (1 << 40,)]
    assert shapes_from_bytes(bytes_from_shapes(shapes)) == shapes


def test_answers_come_back() -> None:
    answer = Answer(((Place(3, 1 << 33), (2, 4)), (Place(APART, 0, 17), ()), (Place(0, 0), (0, 9))), (3, 0), (7,))
    assert answer_from_bytes(bytes_from_answer(answer)) == answer
