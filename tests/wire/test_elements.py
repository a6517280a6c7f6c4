"""Elements of BYTES in messages."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from edge_runtime.errors import InvalidRequestError
from edge_runtime.wire.elements import on_the_wire, strings_array, strings_from_bytes


@given(st.lists(st.binary(max_size=40), max_size=12))
@settings(max_examples=80, deadline=None)
def test_elements_are_as_tritons_client_writes_and_reads_them(elements: list[bytes]) -> None:
    array = strings_array(elements, (len(elements),))
    data = on_the_wire(array).tobytes()
    assert list(deserialize_bytes_tensor(data)) == elements
    if elements:
        assert serialize_byte_tensor(array).item() == data
    assert strings_from_bytes(data, (len(elements),), "x").tolist() == elements


@given(st.binary(max_size=64), st.integers(0, 8))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_elements_that_come_back_or_are_refused(data: bytes, count: int) -> None:
    try:
        array = strings_from_bytes(data, (count,), "x")
    except InvalidRequestError:
        return
    assert on_the_wire(array).tobytes() == data


@pytest.mark.parametrize("shape", [(2**31,), (2**62, 2**62), (4,)])
def test_a_shape_that_the_bytes_can_not_have_is_refused_before_anything_is_made(shape: tuple) -> None:
    with pytest.raises(InvalidRequestError, match=r"x: expected \d+ bytes or more for BYTES .*, got 15"):
        strings_from_bytes(bytes(15), shape, "x")


def test_elements_are_copies_in_the_shape() -> None:
    data = bytearray(struct.pack("<I1sI0sI2sI1s", 1, b"a", 0, b"", 2, b"b\0", 1, b"\xff"))
    array = strings_from_bytes(data, (2, 2), "x")
    data[:] = bytes(len(data))
    assert array.tolist() == [[b"a", b""], [b"b\0", b"\xff"]]


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, [("bfloat16", np.uint16)]])
def test_other_types_are_what_they_are(dtype) -> None:
    array = np.zeros((2, 3), dtype)
    assert on_the_wire(array) is array
