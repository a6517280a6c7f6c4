from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InvalidRequestError, TooLargeError
from edge_runtime.server.http1.chunks import ChunkedBody

GOOD = b"3\r\nabc\r\n1;name=value\r\nd\r\n0005\r\nefghi\r\n0\r\nTrailer: x\r\n\r\n"


def fed(data: bytes, cuts: list[int], limit: int = 1000) -> tuple[bytes, bool, int]:
    """The body, whether it is whole, and how much of `data` was taken, when it comes in pieces."""
    body, buffer, start = ChunkedBody(limit), bytearray(data), 0
    for end in [*sorted(cuts), len(data)]:
        start = body.feed(buffer, start, end)
    return bytes(body.data), body.is_whole, start


@given(st.lists(st.integers(0, len(GOOD)), max_size=6))
def test_chunks_are_put_together_wherever_they_are_cut(cuts: list[int]) -> None:
    assert fed(GOOD + b"GET /", cuts) == (b"abcdefghi", True, len(GOOD))


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_body_that_is_cut_off_is_not_whole(length: int) -> None:
    assert not fed(GOOD[:length], [])[1]


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"1\r\na\r0\r\n\r\n",
        b"1;\x00\r\na\r\n",
        b"f" * 16 + b"\r\n",
        b"1" + b";" * 300,
        b"0\r\nTrailer: x\n\r\n",
        b"0\r\nGET /v2 HTTP/1.1\r\n\r\n",
        b"0\r\nTrailer : x\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nTrailer: a\rb\r\n\r\n",
        b"0\r\nTrailer: a\0b\r\n\r\n",
        b"0\r\n" + (b"T: " + b"x" * 200 + b"\r\n") * 50,
    ],
)
def test_what_is_not_framed_as_chunks_are_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        fed(data, [])


def test_a_body_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(TooLargeError):
        fed(b"6\r\nabcdef\r\n5\r\n", [], limit=10)
    assert fed(b"6\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n", [], limit=10)[:2] == (b"abcdefghij", True)


def test_chunks_are_counted() -> None:
    with pytest.raises(InvalidRequestError):
        fed(b"1\r\na\r\n" * 300_000, [], limit=1 << 20)
