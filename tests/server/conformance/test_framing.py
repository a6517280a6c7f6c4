"""2.3, 1.2: HTTP requests that two servers might read differently, and floods; as bytes, on every transport."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
import zlib
from typing import Any

import numpy as np
import pytest

PATH = "/v2/models/identity/infer"
BODY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}]}'
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
NEXT = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(*lines: bytes, body: bytes = BODY, first: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"POST %s %s" % (PATH.encode(), first), b"Host: x", *lines, b"", b""]) + body


LENGTHS = {
    "and chunks": post(CHUNKED, b"Content-Length: 4", body=CHUNKS),
    "before chunks": post(b"Content-Length: 4", CHUNKED, body=CHUNKS),
    "twice": post(LENGTH, LENGTH),
    "twice in one": post(LENGTH + b", %d" % len(BODY)),
    "with a sign": post(b"Content-Length: +%d" % len(BODY)),
    "in hexadecimal": post(b"Content-Length: 0x%x" % len(BODY)),
    "with an underscore": post(b"Content-Length: 8_6"),
    "with a blank": post(b"Content-Length: 8 6"),
    "of nothing": post(b"Content-Length:"),
    "of another digit": post(b"Content-Length: \xb2"),
    "that wraps at 2^64": post(b"Content-Length: %d" % (2**64 + len(BODY))),
    "negative": post(b"Content-Length: -1"),
}
CODINGS = {
    "identity": post(b"Transfer-Encoding: identity", LENGTH),
    "chunked, identity": post(b"Transfer-Encoding: chunked, identity", body=CHUNKS),
    "identity, chunked": post(b"Transfer-Encoding: identity, chunked", body=CHUNKS),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
    "chunked twice": post(CHUNKED, CHUNKED, body=CHUNKS),
    "chunked, chunked": post(CHUNKED + b", chunked", body=CHUNKS),
    "chunked and identity": post(CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS),
    "xchunked": post(b"Transfer-Encoding: xchunked", body=CHUNKS),
    "behind a vertical tab": post(b"Transfer-Encoding:\x0bchunked", body=CHUNKS),
    "none": post(b"Transfer-Encoding:", body=CHUNKS),
    "folded": post(b"Transfer-Encoding:\r\n chunked", body=CHUNKS),
    "blank before the colon": post(b"Transfer-Encoding : chunked", body=CHUNKS),
    "over HTTP/1.0": post(CHUNKED, body=CHUNKS, first=b"HTTP/1.0"),
}
FIELDS = {
    "folded": post(b"A: b\r\n c", LENGTH),
    "folded at first": post(LENGTH).replace(b"Host", b" Host"),
    "line feed alone": post(b"A: b\nC: d", LENGTH),
    "carriage return alone": post(b"A: b\rC: d", LENGTH),
    "NUL in a value": post(b"A: b\0c", LENGTH),
    "NUL in a name": post(b"A\0: b", LENGTH),
    "blank in a name": post(b"A b: c", LENGTH),
    "blank before the colon": post(b"Content-Length : %d" % len(BODY)),
    "no name": post(b": c", LENGTH),
    "no colon": post(b"A", LENGTH),
    "1 MB of them": post(b"A: " + b"b" * (1 << 20), LENGTH),
}
OWN_FIELDS = {
    "two hosts": post(b"Host: y", LENGTH),
    "no host": post(LENGTH).replace(b"Host: x\r\n", b""),
    "200 of them": post(*[b"A%d: b" % number for number in range(200)], LENGTH),
    "10,000 of them": post(*[b"A%d: b" % number for number in range(10_000)], LENGTH),
}
TWICE = {
    "two head lengths": post(*[b"Inference-Header-Content-Length: 5"] * 2, LENGTH),
    "two encodings": post(b"Content-Encoding: gzip", b"Content-Encoding: gzip", LENGTH),
}
CHUNK = post(CHUNKED, body=b"")
CHUNK_LINES = {
    "a quoted line end": b'%x;a="b\r\nc"\r\n' % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "a line feed behind an extension": b"%x;\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "a carriage return in an extension": b"%x;a\rb\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "line feeds": CHUNKS.replace(b"\r\n", b"\n"),
    "a blank before a size": b" " + CHUNKS,
    "a size of 0x": b"0x" + CHUNKS,
    "a size with a sign": b"+" + CHUNKS,
    "a size with an underscore": b"0_" + CHUNKS,
    "a size that wraps at 2^64": b"1%016x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "a trailer that is a request": CHUNKS[:-2] + b"GET /v2 HTTP/1.1\r\n\r\n",
    "a line feed in a trailer": CHUNKS[:-2] + b"A: b\n\r\n\r\n",
    "more than a size says": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
}


def refused_for_good(server: Any, data: bytes) -> None:
    """What is sent behind a request of doubtful length must not become a request."""
    answers = server.exchange(data + NEXT, 2)
    assert [answer.status for answer in answers] == [400]
    assert list(answers[0].json) == ["error"]


@pytest.mark.parametrize("data", LENGTHS.values(), ids=LENGTHS)
def test_2_3_framing_a_length_in_doubt_ends_the_connection(server, data) -> None:
    refused_for_good(server, data)


@pytest.mark.parametrize("data", CODINGS.values(), ids=CODINGS)
def test_2_3_framing_a_transfer_encoding_in_doubt_ends_the_connection(server, data) -> None:
    refused_for_good(server, data)


@pytest.mark.parametrize("data", FIELDS.values(), ids=FIELDS)
def test_2_3_framing_a_field_in_doubt_ends_the_connection(server, data) -> None:
    refused_for_good(server, data)


@pytest.mark.parametrize("data", OWN_FIELDS.values(), ids=OWN_FIELDS)
@pytest.mark.parametrize("transport", ["own", "own-unix"])
def test_2_3_framing_a_field_that_some_let_pass_ends_the_connection(carried, transport, data) -> None:
    with carried(transport, "identity") as server:
        refused_for_good(server, data)


@pytest.mark.parametrize("data", TWICE.values(), ids=TWICE)
def test_2_3_framing_a_field_given_twice_is_refused(server, data) -> None:
    assert server.exchange(data)[0].status == 400


@pytest.mark.parametrize("data", CHUNK_LINES.values(), ids=CHUNK_LINES)
def test_2_3_framing_chunks_in_doubt_end_the_connection(server, data) -> None:
    refused_for_good(server, CHUNK + data)


@pytest.mark.parametrize("head", [post(LENGTH, body=b""), post(b"A: b", LENGTH, body=b"")[:-4] + b"\r\n\n"], ids=len)
def test_2_3_framing_a_head_of_bare_line_feeds_is_never_served(hasty, head) -> None:
    answers = hasty.exchange(head.replace(b"\r\n", b"\n") + BODY, 2)
    assert all(answer.status == 400 for answer in answers)


@pytest.mark.parametrize(
    "data",
    [
        post(b"transfer-encoding:\tCHUNKED", body=CHUNKS),
        post(CHUNKED, body=b"%x;a=b;c\r\n" % len(BODY) + CHUNKS.split(b"\r\n", 1)[1]),
        post(CHUNKED, body=b"00000000" + CHUNKS),
        post(b"Content-Length: 000%d" % len(BODY)),
        post(b"Content-Encoding: identity", LENGTH),
        post(b"Expect: something else", LENGTH),
        post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", LENGTH),
        post(*[b"A%d: b" % number for number in range(90)], LENGTH),
    ],
    ids=lambda data: repr(data[47:75]),
)
def test_2_3_framing_what_is_odd_but_sound_is_served(server, data) -> None:
    (answer,) = server.exchange(data)
    assert answer.json["outputs"][0]["data"] == [0, 1, 2, 3]


def test_2_3_framing_a_body_that_nobody_asked_for_is_no_next_request(server) -> None:
    smuggled = b"GET /v2/models/none HTTP/1.1\r\nHost: x\r\n\r\n"
    get = b"GET /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    assert [answer.status for answer in server.exchange(get + smuggled + NEXT, 3)] == [200, 200]


def gzip_bomb() -> bytes:
    """64 MiB and a byte, in 64 KiB."""
    return gzip.compress(bytes((64 << 20) + 1))


@pytest.mark.parametrize(
    ("encoding", "make", "status"),
    [
        ("gzip", gzip_bomb, 413),
        ("gzip", lambda: gzip.compress(gzip_bomb()), 400),
        ("gzip", lambda: gzip.compress(BODY) + gzip_bomb(), 400),
        ("deflate", lambda: zlib.compress(BODY)[2:-4], 400),
        ("deflate", lambda: zlib.compress(BODY)[:-1], 400),
        ("gzip", lambda: gzip.compress(BODY)[:-4] + b"\0\0\0\0", 400),
        ("gzip", lambda: gzip.compress(BODY) + b"\0", 400),
        ("gzip, gzip", lambda: gzip.compress(gzip.compress(BODY)), 415),
        ("identity, gzip", lambda: gzip.compress(BODY), 415),
        ("zstd", lambda: BODY, 415),
    ],
)
def test_2_3_compression_is_bounded_and_of_one_stream(server, watch_rss, encoding, make, status) -> None:
    body, grown = make(), watch_rss()
    answer = server.ask("POST", PATH, body, {"Content-Encoding": encoding})
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert grown() < 150 << 20


def test_1_2_chunks_a_million_of_one_byte_take_bounded_time_and_memory(server, watch_rss) -> None:
    flood, grown, start = b"1\r\n \r\n" * 1_000_000, watch_rss(), time.process_time()
    answers = server.exchange(post(CHUNKED, body=CHUNKS[:-5] + flood + b"0\r\n\r\n"))
    assert answers[0].status in (200, 400)
    assert time.process_time() - start < 10
    assert grown() < 32 << 20


@pytest.mark.parametrize("transport", ["own", "own-unix", "libraries"])
def test_2_3_slow_client_that_reads_no_answers_is_dropped(carried, transport) -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [1 << 17], "parameters": {"binary_data_size": 4 << 17}}
    text = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    lines = [b"Inference-Header-Content-Length: %d" % len(text), b"Content-Length: %d" % (len(text) + (4 << 17))]
    request = post(*lines, body=text + np.zeros(1 << 17, np.float32).tobytes()).replace(b"identity", b"large")
    with carried(
        transport, "large", body_timeout_s=0.3, idle_timeout_s=0.3
    ) as server, server.connection() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        with pytest.raises(ConnectionError):
            connection.sendall(request * 200)
        assert server.ask("GET", "/v2").status == 200


def test_1_2_sigpipe_clients_that_are_gone_before_their_answer_harm_nobody(server) -> None:
    for _ in range(50):
        with server.connection() as connection, contextlib.suppress(ConnectionError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(post(LENGTH) * 20)
    assert server.exchange(post(LENGTH))[0].status == 200
