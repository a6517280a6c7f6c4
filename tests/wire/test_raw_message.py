"""What a message holds, counted before protobuf makes objects of it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InvalidRequestError
from edge_runtime.wire.messages import message
from edge_runtime.wire.raw_message import check_parts

REQUEST = "inference.ModelInferRequest"


def request(**fields: Any) -> Any:
    return message(REQUEST)(model_name="m", id="7", **fields)


def with_inputs(inputs: list[dict[str, Any]]) -> Any:
    return request(inputs=inputs, raw_input_contents=[bytes(1 << 16)])


GOOD = {
    "large raw tensors": with_inputs([{"name": "x", "datatype": "FP32", "shape": [1, 1 << 14]}] * 3),
    "many values": with_inputs([{"name": "x", "contents": {"fp32_contents": [1.5] * 100_000}}]),
    "many texts": with_inputs([{"name": "x", "contents": {"bytes_contents": [b""] * 100_000}}]),
    "large dimensions": with_inputs([{"name": "x", "shape": [2**62, -1]}]),
}
PARTS = {
    "outputs": b"\x32\x00",
    "inputs": b"\x2a\x00",
    "tensors": b"\x3a\x00",
    "parameters": b"\x22\x00",
    "unknown fields": b"\xfa\x01\x00",
    "numbers": b"\x78\x80\x01",
    "numbers of 8 bytes": b"\x79" + bytes(8),
    "numbers of 4 bytes": b"\x7d" + bytes(4),
    "groups": b"\x7b\x7c",
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_the_elements_of_tensors_are_no_parts(good: Any) -> None:
    check_parts(memoryview(good.SerializeToString()))


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_what_nobody_needs_so_many_of_is_refused(part: bytes) -> None:
    start = with_inputs([{"name": "x"}]).SerializeToString()
    check_parts(memoryview(start + 2000 * part))
    with pytest.raises(InvalidRequestError, match="4096 fields"):
        check_parts(memoryview(start + 5000 * part))


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_a_tensor_of_too_many_parts_is_refused(kind: str) -> None:
    made = request()
    parameters = getattr(made, kind).add(name="x").parameters
    for index in range(5000):
        parameters[f"p{index}"].bool_param = True
    with pytest.raises(InvalidRequestError, match="4096 fields"):
        check_parts(memoryview(made.SerializeToString()))


def test_a_number_without_an_end_is_left_to_protobuf_after_a_few_bytes() -> None:
    class Counting:
        """Bytes that count how many of them were looked at."""

        looked = 0

        def __len__(self) -> int:
            return 1 << 20

        def __getitem__(self, index: Any) -> int:
            self.looked += 1
            return 0x78 if index == 0 else 0x80

    data = Counting()
    check_parts(data)  # type: ignore[arg-type]
    assert data.looked < 20


@given(start=st.binary(max_size=40), end=st.binary(max_size=40), part=st.binary(min_size=1, max_size=6))
def test_whatever_the_bytes_are_they_are_refused_or_left_to_protobuf(start: bytes, end: bytes, part: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        check_parts(memoryview(start + 10_000 * part + end))
