from __future__ import annotations

import pytest

from edge_runtime.errors import InvalidRequestError
from edge_runtime.server.http1.head import RequestHead, RequestHeads, may_begin_head, parsed_head


def head(*lines: str, first: str = "POST /v2 HTTP/1.1", host: str = "Host: x") -> RequestHead:
    text = "\r\n".join([first, *([host] if host else []), *lines, "", ""])
    return parsed_head(text.encode("latin-1"))


def test_what_a_head_says_is_found() -> None:
    found = head(
        "Content-Length: 12",
        "Content-Encoding: GZIP",
        "Accept-Encoding: br, deflate",
        "Inference-Header-Content-Length: 7",
        "Expect: 100-Continue",
    )
    assert (found.method, found.target, found.content_length, found.encoding) == ("POST", "/v2", 12, "gzip")
    assert (found.accepted, found.head_nbytes, found.expects_continue) == ("deflate", 7, True)
    assert found.keeps_alive


@pytest.mark.parametrize(
    ("first", "lines", "keeps_alive"),
    [
        ("GET / HTTP/1.1", [], True),
        ("GET / HTTP/1.1", ["Connection: close"], False),
        ("GET / HTTP/1.1", ["Connection: keep-alive, close"], False),
        ("GET / HTTP/1.0", [], False),
        ("GET / HTTP/1.0", ["Connection: keep-alive"], False),
    ],
)
def test_whether_another_request_may_follow(first: str, lines: list[str], keeps_alive: bool) -> None:
    assert bool(head(*lines, first=first).keeps_alive) is keeps_alive


def test_chunks_have_no_length() -> None:
    assert head("Transfer-Encoding: Chunked").content_length is None


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["Content-Length: +5"],
        ["Content-Length: 5 5"],
        ["Content-Length: 0x5"],
        ["Content-Length: "],
        ["Content-Length: " + "9" * 30],
        ["Content-Length: \xb2"],
        ["A: b\x00c"],
        ["A: b\rX: c"],
        ["A\x01: b"],
        [" folded: x"],
        ["no colon"],
        ["Host: y"],
        ["Inference-Header-Content-Length: 5", "Inference-Header-Content-Length: 6"],
        [f"H{index}: x" for index in range(200)],
    ],
    ids=lambda lines: ascii(lines[0]),
)
def test_heads_that_two_servers_could_read_differently_are_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        head(*lines)


@pytest.mark.parametrize("first", ["GET /", "GET / HTTP/2.0", "get / HTTP/1.1", "GET / HTTP/1.1 x", ""])
def test_a_request_line_of_another_form_is_refused(first: str) -> None:
    with pytest.raises(InvalidRequestError):
        head(first=first)


def test_http_1_1_needs_a_host() -> None:
    with pytest.raises(InvalidRequestError):
        head(host="")
    assert head(host="", first="GET / HTTP/1.0").method == "GET"


def test_transfer_encoding_is_not_for_http_1_0() -> None:
    with pytest.raises(InvalidRequestError):
        head("Transfer-Encoding: chunked", first="POST / HTTP/1.0")


def test_a_head_that_comes_again_is_the_same_one() -> None:
    heads, data = RequestHeads(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    first = heads.head(data)
    assert heads.head(bytes(data)) is first
    assert heads.head(data.replace(b"x", b"y")) is not first


def test_kept_heads_are_bounded() -> None:
    heads = RequestHeads()
    for index in range(3000):
        heads.head(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % index)
    heads.head(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000 + b"\r\n\r\n")
    assert len(heads._kept) <= 512
    assert max(map(len, heads._kept)) < 2048


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", True),
        (b"G", True),
        (b"\r\nPOST /", True),
        (b"GET /v2 HT", True),
        (b"\x16\x03\x01", False),
        (b"get /", False),
        (b"GET\t/", False),
        (b"A" * 24, False),
    ],
)
def test_what_is_no_http_is_known_before_its_end(data: bytes, expected: bool) -> None:
    assert may_begin_head(data) is expected
