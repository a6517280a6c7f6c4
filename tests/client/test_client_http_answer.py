from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.client.http_answer import AnswerReader, NoAnswerError, UnsoundError
from edge_runtime.errors import RemoteError

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 3\r\nX-Name:  v \r\n\r\nabc"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nTrailer: 1\r\n\r\n"
TO_END = OK + b"\r\nabc"


def read(data: bytes, size: int = 1 << 20, limit: int = 1000) -> AnswerReader:
    """What comes of these bytes, in pieces of that size, and the connection's end."""
    reader = AnswerReader("s", limit)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        while piece:
            room = reader.room()
            if room is None:
                reader.feed(piece)
                break
            part = piece[: len(room)]
            room[: len(part)] = part
            reader.filled(len(part))
            piece = piece[len(part) :]
    if reader.answer is None:
        reader.ended()
    return reader


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("data", "is_reusable"), [(SIZED, True), (CHUNKED, True), (TO_END, False)])
def test_every_kind_of_body_is_read_in_pieces_of_any_size(data, is_reusable, size):
    reader = read(data, size)
    assert (reader.answer.status, reader.answer.body.tobytes(), reader.is_reusable) == (200, b"abc", is_reusable)
    assert reader.answer.body.flags.writeable


def test_header_names_are_lower_case_and_values_trimmed():
    assert read(SIZED).answer.headers == {"content-length": "3", "x-name": "v"}


@pytest.mark.parametrize(
    ("head", "is_reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200\r\nContent-Length: 0", True),
        (b"HTTP/1.1 204 No Content", True),
        (b"HTTP/1.1 304 X\r\nContent-Length: 10", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, close", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0", True),
    ],
)
def test_answers_without_a_body_end_with_their_head(head, is_reusable):
    reader = read(head + b"\r\n\r\n")
    assert (reader.answer.body.size, reader.is_reusable) == (0, is_reusable)


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
def test_bytes_after_an_answer_make_the_connection_unusable(data):
    assert not read(data + b"x").is_reusable


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\nK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"Name : x\r\n\r\n",
        OK + b": x\r\n\r\n",
        OK + b"A: b\r\n folded\r\n\r\n",
        OK + b"A: \0\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: +1\r\n\r\n",
        OK + b"Content-Length: 1_0\r\n\r\n",
        OK + b"Content-Length: \xb2\r\n\r\n",
        OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
        OK + b"A: b\r\n" * 101 + b"\r\n",
        OK + b"A: " + b"b" * 70_000,
        OK,
    ],
)
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_what_is_not_sound_http_is_refused(data, size):
    with pytest.raises(UnsoundError):
        read(data, size)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 1001\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1f4\r\n" + b"x" * 500 + b"\r\n") * 3,
        OK + b"\r\n" + b"x" * 1001,
    ],
)
def test_a_body_over_the_limit_is_refused_before_it_is_there(data):
    with pytest.raises(RemoteError, match="over this client's limit of 1000"):
        read(data, 100)


def test_an_answer_that_never_began_may_be_asked_for_again():
    with pytest.raises(NoAnswerError):
        read(b"")


def test_a_body_cut_short_says_where():
    with pytest.raises(RemoteError, match="ended after 1 of 3 bytes"):
        read(SIZED[:-2])


def test_the_second_part_of_a_large_body_is_aligned():
    for part in (1, 63, 64, 77):
        body = bytes(range(200)) * 50
        reader = AnswerReader("s", 1 << 20, "part")
        reader.feed(OK + f"Content-Length: 10000\r\nPart: {part}\r\n\r\n".encode() + body)
        assert reader.answer.body.tobytes() == body
        assert reader.answer.body[part:].ctypes.data % 64 == 0


@given(
    data=st.sampled_from([SIZED, CHUNKED, TO_END]),
    at=st.integers(0, 120),
    byte=st.binary(min_size=1, max_size=3),
    size=st.integers(1, 50),
)
@settings(max_examples=300, deadline=None)
def test_any_damage_is_refused_or_read_alike_in_any_pieces(data, at, byte, size):
    damaged = data[:at] + byte + data[at + 1 :]

    def outcome(pieces: int) -> object:
        try:
            reader = read(damaged, pieces)
        except (UnsoundError, RemoteError, NoAnswerError) as error:
            return type(error)
        return reader.answer.status, reader.answer.headers, reader.answer.body.tobytes()

    assert outcome(size) == outcome(1 << 20)
