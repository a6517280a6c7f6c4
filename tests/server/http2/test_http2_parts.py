"""The transport's pure parts, without sockets and with a made-up clock."""

from __future__ import annotations

import gzip
import zlib

import hpack
import pytest
from fakes.http2_client import (
    DATA,
    END_STREAM,
    GOAWAY,
    PING,
    PREFACE,
    call,
    fields,
    frame,
    head,
    literal_block,
    message,
    settings,
)

from edge_runtime.server.http2.allowance import Allowance
from edge_runtime.server.http2.compression import decompressed
from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.faults import CallRefusedError, Http2Error
from edge_runtime.server.http2.head import Head
from edge_runtime.server.http2.header_blocks import HeaderReader, literal
from edge_runtime.server.http2.intake import Intake
from edge_runtime.server.http2.lifetime import Lifetime
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.server.http2.receiver import Receiver
from edge_runtime.server.http2.requests import Requests
from edge_runtime.server.http2.status import grpc_status_block, percent_encoded

SECOND = 10**9


def test_an_allowance_comes_back_with_time() -> None:
    allowance = Allowance(3, 2.0, 0)
    assert [allowance.is_spent(0) for _ in range(5)] == [False, False, False, True, True]
    assert [allowance.is_spent(SECOND + 1) for _ in range(2)] == [True, True]
    assert [allowance.is_spent(10 * SECOND) for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("sizes", [[1] * 25, [5, 20], [3, 9, 13], [25], [4, 1, 20]])
def test_a_message_is_whole_however_it_is_cut(sizes: list[int]) -> None:
    data, intake = memoryview(message(bytes(range(20)))), Intake(100)
    for size in sizes:
        intake.feed(data[:size], 0)
        data = data[size:]
    assert bytes(intake.message()) == bytes(range(20))


def test_a_buffer_grows_with_what_came_and_ends_at_the_messages_length() -> None:
    intake, sizes = Intake(1 << 30), []
    intake.feed(memoryview(message(b"", length=10_000_000)), 0)
    for _ in range(10):
        intake.feed(memoryview(bytes(1_000_000)), 0)
        sizes.append(len(intake._buffer))
    assert sizes == [4_000_000] * 4 + [10_000_000] * 6


def test_the_rest_of_a_long_message_is_received_straight_to_its_place() -> None:
    intake = Intake(1 << 20)
    intake.feed(memoryview(message(b"abc", length=10_000)), 0)
    assert intake.room(500, 9_998) is None
    room = intake.room(20_000, 5_000)
    while room:
        room[:] = b"d" * len(room)
        intake.received(len(room))
        room = intake.room(20_000, 1)
    assert bytes(intake.message()) == b"abc" + b"d" * 9_997


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compression_is_undone_up_to_the_limit(encoding: str) -> None:
    packed = (gzip.compress if encoding == "gzip" else zlib.compress)(bytes(1000))
    assert decompressed(packed, encoding, 1000) == bytes(1000)
    with pytest.raises(CallRefusedError, match="over 999 bytes"):
        decompressed(packed, encoding, 999)
    for broken in (packed[:-1], packed + b"x", b"", b"x" * 20):
        with pytest.raises(CallRefusedError, match="isn't"):
            decompressed(broken, encoding, 1000)


def test_a_bomb_is_not_inflated(watch_rss) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    grown = watch_rss()
    with pytest.raises(CallRefusedError) as caught:
        decompressed(bomb, "gzip", 1000)
    assert caught.value.status == "RESOURCE_EXHAUSTED"
    assert grown() < 16 << 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1S", SECOND),
        ("12345678n", 12_345_678),
        ("2H", 7200 * SECOND),
        ("3M", 180 * SECOND),
        ("4m", 4_000_000),
        ("5u", 5000),
    ],
)
def test_grpc_timeouts(text: str, expected: int) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in fields(grpc_timeout=text)]
    assert Head(pairs, 10_000).timeout_ns == expected


def test_a_repeated_block_is_decoded_once() -> None:
    reader, encoder = HeaderReader(10_000), hpack.Encoder()
    first, second, third = (encoder.encode(fields()) for _ in range(3))
    assert second == third != first
    assert reader.head(first) is not reader.head(second)
    assert reader.head(third) is reader.head(second)


def test_a_block_means_something_else_after_the_table_changed() -> None:
    reader, encoder = HeaderReader(10_000), hpack.Encoder()
    first, _ = encoder.encode([("x", "1")]), reader.head(b"\x20")
    reader = HeaderReader(10_000)
    reader.head(first)
    assert list(reader.head(b"\xbe").fields) == [(b"x", b"1")]
    reader.head(encoder.encode([("y", "2")]))
    assert list(reader.head(b"\xbe").fields) == [(b"y", b"2")]
    reader.head(b"\x20")
    with pytest.raises(Http2Error):
        reader.head(b"\xbe")


def test_the_cache_is_bounded() -> None:
    reader = HeaderReader(10_000)
    for number in range(1000):
        reader.head(literal_block([("x", str(number))]))
    assert len(reader._known) <= 64
    reader.head(literal_block([("x", "y" * 2000)]))
    assert max(map(len, reader._known)) < 1024


@pytest.mark.parametrize("nbytes", [0, 126, 127, 128, 254, 255, 300, 5000])
def test_literals_are_what_a_decoder_reads(nbytes: int) -> None:
    assert list(hpack.Decoder().decode(literal(b"x" * (nbytes + 1), b"v" * nbytes))) == [
        ("x" * (nbytes + 1), "v" * nbytes)
    ]


def test_a_status_is_what_a_decoder_reads() -> None:
    pairs = dict(hpack.Decoder().decode(grpc_status_block("NOT_FOUND", "50 %\n", [("X-Y", "z")])))
    assert pairs == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "5",
        "grpc-message": "50 %25%0A",
        "x-y": "z",
    }
    assert len(percent_encoded("ü" * 100_000)) < 16_000


class Talk:
    """A connection without a socket, and its clock."""

    def __init__(self, handler, **limits) -> None:
        self.connection = Connection(Http2Limits(**limits), "peer", lambda: None, 0)
        requests = Requests(self.connection, handler)
        requests.streaming = ("/s.S/Stream",)
        self.requests = requests
        self.resume = requests.carrier.resume
        self.receiver = Receiver(self.connection, requests)
        self.lifetime = Lifetime(self.connection, requests)
        self.connection.outbox.is_corked = True
        self.rest = b""
        self.hear(PREFACE + settings({}))

    def hear(self, data: bytes) -> None:
        view = memoryview(self.rest + data)
        left = self.receiver.receive(view, len(view))
        while self.receiver.has_more:
            view = view[len(view) - left :]
            left = self.receiver.receive(view, len(view))
        self.rest = bytes(view[len(view) - left :])

    def said(self) -> bytes:
        data = b"".join(self.connection.outbox.chunks)
        self.connection.outbox.chunks.clear()
        return data


@pytest.mark.parametrize("step", [1, 2, 7, 100, 1000])
def test_what_is_said_does_not_depend_on_how_it_was_cut(step: int) -> None:
    data = b"".join(call(each, bytes(each)) for each in range(1, 100, 2)) + head(101) + frame(DATA, END_STREAM, 101)
    whole, cut = (Talk(lambda call: call.reply(call.message)) for _ in range(2))
    whole.hear(data)
    for at in range(0, len(data), step):
        cut.hear(data[at : at + step])
    assert whole.said() == cut.said()
    assert not cut.connection.streams.calls


@pytest.mark.parametrize("path", ["/t.T/Echo", "/s.S/Stream"])
def test_a_message_is_of_the_client_whom_its_own_call_shows(path: str) -> None:
    clients: list[bytes] = []

    def gate(shown: Head) -> None:
        talk.connection.client = dict(shown.metadata)[b"who"]

    talk = Talk(lambda call: clients.append(call.client))
    talk.requests.gate = gate
    talk.hear(head(1, [*fields(path), ("who", "a")]) + head(3, [*fields(path), ("who", "b")]))
    talk.hear(frame(DATA, 0, 1, message(b"")) + frame(DATA, END_STREAM, 3, message(b"")) + frame(DATA, END_STREAM, 1))
    assert sorted(clients) == [b"a", b"b"]
    assert clients[0] == (b"b" if path == "/t.T/Echo" else b"a")


def test_an_idle_connection_ends_after_its_time() -> None:
    talk = Talk(lambda call: call.reply(b""), idle_timeout_s=10)
    talk.hear(call(1))
    assert talk.lifetime.check(1 * SECOND, 0)
    assert talk.lifetime.check(10 * SECOND, 0)
    assert not talk.connection.is_over
    assert talk.lifetime.check(12 * SECOND, 0)
    assert talk.connection.is_over
    assert talk.said()[-13 - 8 + 3] == GOAWAY


def test_a_slow_message_ends_after_its_time() -> None:
    talk = Talk(lambda call: None, body_timeout_s=10)
    talk.hear(head(1))
    talk.lifetime.check(9 * SECOND, 0)
    assert 1 in talk.connection.streams.calls
    talk.lifetime.check(11 * SECOND, 0)
    assert 1 not in talk.connection.streams.calls


def test_a_call_that_waits_for_its_answer_is_not_slow() -> None:
    talk = Talk(lambda call: None, body_timeout_s=10)
    talk.hear(call(1))
    talk.lifetime.check(1000 * SECOND, 0)
    assert 1 in talk.connection.streams.calls


def test_a_reader_must_take_64_kib_in_its_time() -> None:
    talk = Talk(lambda call: call.reply(bytes(1 << 20)), send_timeout_s=10)
    talk.hear(call(1))
    assert talk.lifetime.check(1 * SECOND, 0)
    talk.connection.outbox.window += 65536
    talk.connection.outbox.widen(talk.connection.streams.calls[1], 65536)
    talk.connection.pump()
    assert talk.lifetime.check(9 * SECOND, 0)
    assert talk.lifetime.check(18 * SECOND, 0)
    talk.connection.outbox.window += 100
    talk.connection.outbox.widen(talk.connection.streams.calls[1], 100)
    talk.connection.pump()
    assert not talk.lifetime.check(20 * SECOND, 0)


def test_arrival_is_when_the_head_was_read_and_a_failing_cancellation_of_another_call_is_nothing() -> None:
    calls = []
    talk = Talk(calls.append)
    talk.connection.now_ns = 7
    talk.hear(call(1) + head(3))
    talk.connection.now_ns = 9
    talk.hear(frame(DATA, END_STREAM, 3, message(b"")))
    assert [each.arrival_ns for each in calls] == [7, 7]
    calls[0].on_cancel = lambda: calls[1].fail("INTERNAL", "")
    calls[1].on_cancel = lambda: calls[0].fail("INTERNAL", "")
    talk.connection.lost()
    assert not talk.connection.streams.calls


def test_each_message_of_a_stream_arrives_when_its_first_byte_came() -> None:
    calls = []
    talk = Talk(calls.append, max_stream_requests=2)
    body, start = message(bytes(1000)), head(1, fields("/s.S/Stream", grpc_timeout="10m"))
    for now_ms, data in enumerate([start, body[:3], body[3:] + body, body, body + body[:1], body[1:] + body]):
        talk.connection.now_ns = now_ms * SECOND // 1000
        talk.hear(data if data is start else frame(DATA, 0, 1, data))
    for at in range(6):
        calls[at].reply(b"")
        talk.resume()
    assert [each.arrival_ns // 1_000_000 for each in calls] == [1, 2, 3, 4, 4, 5]
    assert [each.timeout_ns // 1_000_000 for each in calls] == [9, 8, 7, 6, 6, 5]


def test_a_silent_client_of_a_stream_is_asked_once_and_then_dropped() -> None:
    talk = Talk(lambda call: None, idle_timeout_s=10, body_timeout_s=10)
    talk.hear(head(1, fields("/s.S/Stream")))
    talk.said()
    assert talk.lifetime.check(9 * SECOND, 0)
    assert talk.said() == b""
    assert talk.lifetime.check(11 * SECOND, 0)
    assert talk.said()[3] == PING
    talk.connection.now_ns = 12 * SECOND  # it was heard
    assert talk.lifetime.check(21 * SECOND, 0)
    assert talk.lifetime.check(23 * SECOND, 0)
    assert talk.said()[3] == PING
    assert talk.lifetime.check(32 * SECOND, 0)
    assert talk.said() == b""
    assert not talk.lifetime.check(34 * SECOND, 0)


def test_a_message_that_waits_for_others_is_not_slow() -> None:
    calls = []
    talk = Talk(calls.append, max_stream_requests=1, body_timeout_s=10)
    talk.hear(head(1, fields("/s.S/Stream")) + frame(DATA, 0, 1, message(b"") + message(b"late", length=9)))
    talk.lifetime.check(1000 * SECOND, 0)
    calls[0].reply(b"")
    talk.resume()
    talk.said()
    talk.lifetime.check(1001 * SECOND, 0)
    talk.lifetime.check(1010 * SECOND, 0)
    assert talk.said() == b""
    talk.lifetime.check(1012 * SECOND, 0)
    assert b"grpc-status\x014" in talk.said()
