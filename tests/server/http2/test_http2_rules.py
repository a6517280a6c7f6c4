"""One row a rule of RFC 9113, RFC 7541 and gRPC over HTTP/2: what a client sends, and how it is taken."""

from __future__ import annotations

import struct

import pytest
from fakes.http2_client import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    RawClient,
    call,
    fields,
    frame,
    head,
    literal_block,
    message,
    rst_stream,
    settings,
    window_update,
)

BLOCK = literal_block(fields())
HELLO = message(b"hello")
OPEN = head(1)  # a call whose message hasn't come
HELD = call(1, b"", "/t.T/Hold")  # one that waits for its answer
DONE = call(1)


def block(*pairs: tuple) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, literal_block(pairs))


def malformed(**changes: str | None) -> bytes:
    return head(1, fields(**changes), END_STREAM)


CONNECTION_ERRORS = {
    # 4.1, 4.2 frame size
    "frame over MAX_FRAME_SIZE": (OPEN + frame(DATA, 0, 1, length=(1 << 17) + 1), "FRAME_SIZE_ERROR"),
    "unknown frame over MAX_FRAME_SIZE": (frame(77, length=(1 << 17) + 1), "FRAME_SIZE_ERROR"),
    "PING of 7 bytes": (frame(PING, payload=b"1234567"), "FRAME_SIZE_ERROR"),
    "RST_STREAM of 3 bytes": (OPEN + frame(RST_STREAM, 0, 1, b"123"), "FRAME_SIZE_ERROR"),
    "WINDOW_UPDATE of 5 bytes": (frame(WINDOW_UPDATE, payload=b"12345"), "FRAME_SIZE_ERROR"),
    "SETTINGS not of 6 bytes": (frame(SETTINGS, payload=b"1234567"), "FRAME_SIZE_ERROR"),
    "SETTINGS ACK with payload": (frame(SETTINGS, 1, 0, bytes(6)), "FRAME_SIZE_ERROR"),
    "GOAWAY of 4 bytes": (frame(GOAWAY, payload=b"1234"), "FRAME_SIZE_ERROR"),
    # 4.3 header compression
    "index out of the table": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\x01"), "COMPRESSION_ERROR"),
    "number without end": (frame(HEADERS, END_HEADERS, 1, b"\xff" + 15000 * b"\xff" + b"\0"), "COMPRESSION_ERROR"),
    "index 0": (frame(HEADERS, END_HEADERS, 1, b"\x80"), "COMPRESSION_ERROR"),
    "literal cut short": (frame(HEADERS, END_HEADERS, 1, b"\x00\x05ab"), "COMPRESSION_ERROR"),
    "bad Huffman code": (frame(HEADERS, END_HEADERS, 1, b"\x00\x84\xff\xff\xff\xff\x01a"), "COMPRESSION_ERROR"),
    "table size over ours": (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f" + BLOCK), "COMPRESSION_ERROR"),
    "table size after a field": (frame(HEADERS, END_HEADERS, 1, BLOCK + b"\x20"), "COMPRESSION_ERROR"),
    # 5.1 states, 5.1.1 numbers
    "DATA on an idle stream": (frame(DATA, 0, 1, b"x"), "PROTOCOL_ERROR"),
    "RST_STREAM on an idle stream": (rst_stream(1), "PROTOCOL_ERROR"),
    "WINDOW_UPDATE on an idle stream": (window_update(1, 1), "PROTOCOL_ERROR"),
    "HEADERS after END_STREAM and answer": (DONE + DONE, "STREAM_CLOSED"),
    "even stream": (call(2), "PROTOCOL_ERROR"),
    "stream that shrinks": (call(5) + call(3), "PROTOCOL_ERROR"),
    "HEADERS on stream 0": (call(0), "PROTOCOL_ERROR"),
    # 6.1 to 6.10
    "DATA on stream 0": (frame(DATA, 0, 0, b"x"), "PROTOCOL_ERROR"),
    "DATA all padding": (OPEN + frame(DATA, PADDED, 1, b"\x05abcd"), "PROTOCOL_ERROR"),
    "DATA padded and empty": (OPEN + frame(DATA, PADDED, 1) + OPEN, "PROTOCOL_ERROR"),
    "HEADERS all padding": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05abcd"), "PROTOCOL_ERROR"),
    "HEADERS too short for priority": (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"1234"), "FRAME_SIZE_ERROR"),
    "PRIORITY on stream 0": (frame(PRIORITY, payload=b"12345"), "PROTOCOL_ERROR"),
    "RST_STREAM on stream 0": (rst_stream(0), "PROTOCOL_ERROR"),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), "PROTOCOL_ERROR"),
    "ENABLE_PUSH of 2": (settings({2: 2}), "PROTOCOL_ERROR"),
    "INITIAL_WINDOW_SIZE of 2^31": (settings({4: 1 << 31}), "FLOW_CONTROL_ERROR"),
    "MAX_FRAME_SIZE of 16383": (settings({5: 16383}), "PROTOCOL_ERROR"),
    "MAX_FRAME_SIZE of 2^24": (settings({5: 1 << 24}), "PROTOCOL_ERROR"),
    "33 settings": (frame(SETTINGS, payload=bytes(33 * 6)), "ENHANCE_YOUR_CALM"),
    "INITIAL_WINDOW_SIZE overflows": (
        HELD + window_update(1, 2**31 - 65536) + settings({4: 65536}), "FLOW_CONTROL_ERROR",
    ),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + BLOCK), "PROTOCOL_ERROR"),
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), "PROTOCOL_ERROR"),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), "PROTOCOL_ERROR"),
    "WINDOW_UPDATE of the connection by 0": (window_update(0, 0), "PROTOCOL_ERROR"),
    "connection's window overflows": (window_update(0, 2**31 - 1), "FLOW_CONTROL_ERROR"),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, b""), "PROTOCOL_ERROR"),
    "CONTINUATION after END_HEADERS": (OPEN + frame(CONTINUATION, END_HEADERS, 1, b""), "PROTOCOL_ERROR"),
    "CONTINUATION of another stream": (frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 4, 3), "PROTOCOL_ERROR"),
    "frame inside a header block": (frame(HEADERS, 0, 1, BLOCK) + frame(PING, payload=bytes(8)), "PROTOCOL_ERROR"),
    "HEADERS inside a header block": (frame(HEADERS, 0, 1, BLOCK) + call(3), "PROTOCOL_ERROR"),
    "unknown frame inside a header block": (frame(HEADERS, 0, 1, BLOCK) + frame(77), "PROTOCOL_ERROR"),
    "17 CONTINUATIONs": (frame(HEADERS, 0, 1, BLOCK) + 17 * frame(CONTINUATION, 0, 1, b""), "ENHANCE_YOUR_CALM"),
    "header block of 34 kB": (
        frame(HEADERS, 0, 1, bytes(30000)) + frame(CONTINUATION, 0, 1, bytes(4000)), "ENHANCE_YOUR_CALM",
    ),
    "HEADERS of 33 kB": (frame(HEADERS, 0, 1, bytes(33000)), "ENHANCE_YOUR_CALM"),
    "HPACK bomb": (
        frame(HEADERS, END_HEADERS, 1, b"\x40\x01a\x7f\x81\x1e" + 3968 * b"v" + 40 * b"\xbe"),
        "ENHANCE_YOUR_CALM",
    ),
    "SETTINGS of 17 kB": (frame(SETTINGS, length=17000), "ENHANCE_YOUR_CALM"),
}  # fmt: skip
STREAM_ERRORS = {
    # 5.1 half-closed (remote), closed
    "DATA after END_STREAM": (HELD + frame(DATA, 0, 1, b"x"), "STREAM_CLOSED"),
    "a whole message after END_STREAM": (HELD + frame(DATA, END_STREAM, 1, HELLO), "STREAM_CLOSED"),
    "HEADERS after END_STREAM": (HELD + head(1), "STREAM_CLOSED"),
    "DATA after the answer": (DONE + frame(DATA, 0, 1, b"x"), "STREAM_CLOSED"),
    "DATA after RST_STREAM": (OPEN + rst_stream(1) + frame(DATA, 0, 1, b"x"), "STREAM_CLOSED"),
    # 6.3, 6.9
    "PRIORITY of 4 bytes": (OPEN + frame(PRIORITY, 0, 1, b"1234"), "FRAME_SIZE_ERROR"),
    "WINDOW_UPDATE by 0": (HELD + window_update(1, 0), "PROTOCOL_ERROR"),
    "stream's window overflows": (HELD + window_update(1, 2**31 - 1), "FLOW_CONTROL_ERROR"),
    # 8.1, 8.2, 8.3
    "trailers without END_STREAM": (OPEN + head(1, [("x", "y")]), "PROTOCOL_ERROR"),
    "pseudo-header in trailers": (OPEN + head(1, [(":path", "/")], END_STREAM), "PROTOCOL_ERROR"),
    "upper-case name": (malformed(X="y"), "PROTOCOL_ERROR"),
    "empty name": (block(*fields(), ("", "y")), "PROTOCOL_ERROR"),
    "name with a blank": (block(*fields(), ("a b", "y")), "PROTOCOL_ERROR"),
    "value with a line feed": (malformed(x="a\nb"), "PROTOCOL_ERROR"),
    "value with NUL": (malformed(x="a\0b"), "PROTOCOL_ERROR"),
    "value with blanks around": (malformed(x=" a "), "PROTOCOL_ERROR"),
    "connection": (malformed(connection="close"), "PROTOCOL_ERROR"),
    "keep-alive": (malformed(keep_alive="1"), "PROTOCOL_ERROR"),
    "proxy-connection": (malformed(proxy_connection="1"), "PROTOCOL_ERROR"),
    "transfer-encoding": (malformed(transfer_encoding="chunked"), "PROTOCOL_ERROR"),
    "upgrade": (malformed(upgrade="x"), "PROTOCOL_ERROR"),
    "te is not trailers": (malformed(te="gzip"), "PROTOCOL_ERROR"),
    "no :method": (malformed(_method=None), "PROTOCOL_ERROR"),
    "no :scheme": (malformed(_scheme=None), "PROTOCOL_ERROR"),
    "no :path": (malformed(_path=None), "PROTOCOL_ERROR"),
    "empty :path": (malformed(_path=""), "PROTOCOL_ERROR"),
    ":path without slash": (malformed(_path="x"), "PROTOCOL_ERROR"),
    "two :path": (block((":path", "/"), *fields()), "PROTOCOL_ERROR"),
    "unknown pseudo-header": (block((":x", "y"), *fields()), "PROTOCOL_ERROR"),
    "pseudo-header of an answer": (block((":status", "200"), *fields()), "PROTOCOL_ERROR"),
    "pseudo-header after a field": (block(*fields()[1:], fields()[0]), "PROTOCOL_ERROR"),
    "content-length without body": (malformed(content_length="1"), "PROTOCOL_ERROR"),
    "content-length of letters": (malformed(content_length="abc"), "PROTOCOL_ERROR"),
    "content-length that lies": (
        head(1, fields(content_length="9")) + frame(DATA, END_STREAM, 1, HELLO),
        "PROTOCOL_ERROR",
    ),
    "two content-lengths": (
        block(*fields(), ("content-length", "0"), ("content-length", "1")),
        "PROTOCOL_ERROR",
    ),
}  # fmt: skip
GRPC_STATUS = {
    "no message": (head(1, fields(), END_STREAM), "3"),
    "half a prefix": (OPEN + frame(DATA, END_STREAM, 1, HELLO[:3]), "3"),
    "half a message": (OPEN + frame(DATA, END_STREAM, 1, HELLO[:-1]), "3"),
    "two messages": (OPEN + frame(DATA, END_STREAM, 1, HELLO * 2), "3"),
    "a second message": (OPEN + frame(DATA, 0, 1, HELLO) + frame(DATA, END_STREAM, 1, HELLO), "3"),
    "prefix that is none": (OPEN + frame(DATA, END_STREAM, 1, b"\x02" + HELLO[1:]), "3"),
    "message over the limit": (OPEN + frame(DATA, 0, 1, message(b"", length=(1 << 20) + 1)), "8"),
    "message of 4 GB": (OPEN + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff"), "8"),
    "compressed by nothing": (OPEN + frame(DATA, END_STREAM, 1, message(b"x", flag=1)), "3"),
    "not gzip": (head(1, fields(grpc_encoding="gzip")) + frame(DATA, 1, 1, message(b"x", flag=1)), "3"),
    "unknown encoding": (head(1, fields(grpc_encoding="snappy")), "12"),
    "bad grpc-timeout": (head(1, fields(grpc_timeout="1w")), "3"),
    "grpc-timeout of 9 digits": (head(1, fields(grpc_timeout="123456789S")), "3"),
    "header list over the limit": (head(1, fields(x="y" * 17000)), "8"),
    "unknown method": (call(1, b"", "/t.T/Nothing"), "12"),
    "method that raises": (call(1, b"", "/t.T/Raise"), "13"),
    "method that fails": (call(1, b"", "/t.T/Fail"), "5"),
}
FINE = {
    "one piece": DONE,
    "padding": OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\x03" + HELLO + b"pad"),
    "only padding after it": OPEN + frame(DATA, 0, 1, HELLO) + frame(DATA, PADDED | END_STREAM, 1, b"\x01."),
    "padded head": frame(HEADERS, END_HEADERS | PADDED, 1, b"\x02" + BLOCK + b"..") + frame(DATA, 1, 1, HELLO),
    "priority in the head": frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, bytes(5) + BLOCK) + frame(DATA, 1, 1, HELLO),
    "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)) + OPEN + frame(PRIORITY, 0, 9, bytes(5)) + frame(DATA, 1, 1, HELLO),
    "CONTINUATIONs": frame(HEADERS, 0, 1, BLOCK[:9])
    + b"".join(frame(CONTINUATION, 0, 1, BLOCK[at : at + 9]) for at in range(9, 99, 9))
    + frame(CONTINUATION, END_HEADERS, 1, BLOCK[99:])
    + frame(DATA, 1, 1, HELLO),
    "END_STREAM alone": OPEN + frame(DATA, 0, 1, HELLO) + frame(DATA, END_STREAM, 1),
    "empty DATA before": OPEN + frame(DATA, 0, 1) + frame(DATA, END_STREAM, 1, HELLO),
    "byte by byte": OPEN + b"".join(frame(DATA, 0, 1, bytes([byte])) for byte in HELLO) + frame(DATA, 1, 1),
    "trailers": OPEN + frame(DATA, 0, 1, HELLO) + head(1, [("x", "y")], END_STREAM),
    "unknown frame": frame(77, 255, 0, b"x") + OPEN + frame(78, 255, 1, bytes(99)) + frame(DATA, 1, 1, HELLO),
    "unknown setting": settings({77: 1}) + DONE,
    "reserved bit": frame(HEADERS, END_HEADERS, 1 | 1 << 31, BLOCK) + frame(DATA, 1, 1 | 1 << 31, HELLO),
    "no te": head(1, fields(te=None)) + frame(DATA, 1, 1, HELLO),
    "no :authority": head(1, fields(_authority=None)) + frame(DATA, 1, 1, HELLO),
    "subtype and parameter": head(1, fields(content_type="application/grpc+proto;x=y")) + frame(DATA, 1, 1, HELLO),
    "content-length that is true": head(1, fields(content_length="10")) + frame(DATA, 1, 1, HELLO),
    "the same with padding": head(1, fields(content_length="10")) + frame(DATA, PADDED | 1, 1, b"\x01" + HELLO + b"."),
    "GOAWAY first": frame(GOAWAY, payload=bytes(8)) + DONE,
    "empty value": head(1, fields(x="")) + frame(DATA, 1, 1, HELLO),
    "answered later": call(1, b"hello", "/t.T/Later"),
}  # fmt: skip
PREFACES = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a preface, then rubbish": PREFACE[:10] + b"?",
    "no SETTINGS first": PREFACE + frame(PING, payload=bytes(8)),
    "SETTINGS ACK first": PREFACE + frame(SETTINGS, 1),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("rule", CONNECTION_ERRORS)
def test_a_broken_connection_ends_with_goaway(client: RawClient, quiet, rule: str) -> None:
    data, code = CONNECTION_ERRORS[rule]
    client.send(data)
    assert client.verdict() == f"GOAWAY {code}"
    assert client.until_closed()[-1].kind == GOAWAY
    quiet()


@pytest.mark.parametrize("rule", STREAM_ERRORS)
def test_a_broken_stream_ends_with_a_reset_and_others_go_on(client: RawClient, http2, quiet, rule: str) -> None:
    data, code = STREAM_ERRORS[rule]
    client.send(data)
    assert client.verdict() == f"RST 1 {code}"
    client.send(call(101))
    assert client.answer(101).body == HELLO
    assert http2.open_calls() == 0
    quiet()


@pytest.mark.parametrize("rule", GRPC_STATUS)
def test_a_wrong_call_is_answered_with_a_status_and_others_go_on(client: RawClient, http2, rule: str) -> None:
    data, status = GRPC_STATUS[rule]
    client.send(data)
    assert client.answer(1).status == status
    client.send(call(101))
    assert client.answer(101).body == HELLO
    assert http2.open_calls() == 0


@pytest.mark.parametrize("rule", FINE)
def test_what_is_allowed_is_answered(client: RawClient, http2, quiet, rule: str) -> None:
    client.send(FINE[rule])
    answer = client.answer(1)
    assert (answer.status, answer.body) == ("0", HELLO)
    assert http2.open_calls() == 0
    quiet()


@pytest.mark.parametrize("rule", PREFACES)
def test_what_is_not_http2_is_sent_away(http2, quiet, rule: str) -> None:
    with RawClient(http2.address, greet=False) as client:
        client.send(PREFACES[rule])
        assert client.until_closed()[-1].kind == GOAWAY
    quiet()


@pytest.mark.parametrize(("changes", "status"), [({"_method": "GET"}, "405"), ({"content_type": "text/plain"}, "415")])
def test_what_is_not_grpc_is_answered_with_an_http_status(client: RawClient, changes: dict, status: str) -> None:
    client.send(head(1, fields(**changes), END_STREAM))
    assert client.answer(1).fields[":status"] == status


def test_more_streams_than_announced_are_refused(serving_http2) -> None:
    with serving_http2(max_streams=2) as server, RawClient(server.address) as client:
        client.send(b"".join(call(stream, b"", "/t.T/Hold") for stream in (1, 3, 5)))
        assert client.verdict() == "RST 5 REFUSED_STREAM"
        assert len(server.held) == 2


def test_settings_are_acknowledged_and_pings_answered(client: RawClient) -> None:
    client.send(settings({3: 1}) + frame(PING, payload=b"12345678"))
    found = client.settled()
    assert [(each.kind, each.payload) for each in found if each.flags & 1][-2:] == [
        (PING, b"12345678"),
        (PING, b"barrier!"),
    ]
    assert sum(each.kind == SETTINGS and each.flags == 1 for each in found) == 2
    announced = dict(struct.iter_unpack(">HL", found[0].payload))
    assert (announced[4], announced[5]) == (1 << 17, 1 << 17)
