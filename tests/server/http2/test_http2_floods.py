"""Hostile and unlucky clients: bounded memory, bounded work, and a server that serves the next one."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading

import pytest
from fakes.http2_client import (
    DATA,
    END_STREAM,
    GOAWAY,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    RawClient,
    call,
    fields,
    frame,
    head,
    message,
    rst_stream,
    settings,
    window_update,
)
from fakes.mutations import changed_frames

from edge_runtime.server.http2 import receiver

MIB = 1 << 20


def is_well(server) -> bool:
    """Whether a good client is served, and nothing of the others is left."""
    with RawClient(server.address) as good:
        good.send(call(1))
        answer = good.answer(1)
    return (answer.status, answer.body, server.open_calls()) == ("0", message(b"hello"), 0)


FLOODS = {
    "PING": 3000 * frame(PING, payload=bytes(8)),
    "SETTINGS": 3000 * settings({}),
    "PRIORITY": 3000 * frame(PRIORITY, 0, 1, bytes(5)),
    "unknown frames": 3000 * frame(99),
    "empty DATA": head(1) + 3000 * frame(DATA, 0, 1),
    "padding alone": head(1) + 3000 * frame(DATA, 8, 1, b"\0"),
    "WINDOW_UPDATE": 21_000 * window_update(0, 1),
    "RST_STREAM of closed streams": call(1) + 3000 * rst_stream(1),
    "DATA on closed streams": b"".join(call(each) + frame(DATA, 0, each, b"x") for each in range(1, 3001, 2)),
    "rapid reset": b"".join(head(each) + rst_stream(each) for each in range(1, 3001, 2)),
    "rapid reset of whole calls": b"".join(
        call(each, b"", "/t.T/Hold") + rst_stream(each) for each in range(1, 3001, 2)
    ),
    "more streams than allowed": b"".join(call(each, b"", "/t.T/Hold") for each in range(1, 4001, 2)),
    "malformed heads": b"".join(head(each, fields(te="x"), END_STREAM) for each in range(1, 6001, 2)),
    "resets that we are made to send": b"".join(
        call(each, b"", "/t.T/Hold") + window_update(each, 0) for each in range(1, 3001, 2)
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_the_connection(http2, quiet, flood: str) -> None:
    with RawClient(http2.address) as client:
        client.send(FLOODS[flood])
        assert client.verdict().startswith(("GOAWAY ENHANCE_YOUR_CALM", "RST"))
        last = client.until_closed()[-1]
        assert (last.kind, last.payload[4:8]) == (GOAWAY, struct.pack(">L", 11))
    assert is_well(http2)
    assert http2.run(lambda: http2.held) == []
    quiet()


def test_one_client_with_many_calls_doesnt_keep_others_waiting(serving_http2, monkeypatch) -> None:
    monkeypatch.setattr(receiver, "_TURN_NS", -1)  # as if each call took long
    go_on = threading.Event()
    with serving_http2() as server, RawClient(server.address) as many, RawClient(server.address) as good:
        assert (many.verdict(), good.verdict()) == ("fine", "fine")
        server.loop.call_soon_threadsafe(go_on.wait)
        many.send(b"".join(call(each, b"m", "/t.T/Hold") for each in range(1, 801, 2)))
        good.send(call(1, b"g", "/t.T/Hold"))
        go_on.set()
        for _ in range(401):
            assert server.is_holding.acquire(timeout=20)
        order = server.run(lambda: [bytes(each.message) for each in server.held])
        assert (order.index(b"g") < 20, order.count(b"m")) == (True, 400)
        server.release()
        assert many.answer(799).body == message(b"released m")


def test_control_frames_at_a_usual_rate_are_no_flood(http2) -> None:
    with RawClient(http2.address) as client:
        for stream in range(1, 1001, 2):
            client.send(call(stream) + frame(PING, payload=bytes(8)) + window_update(0, 10) + window_update(0, 10))
            assert client.answer(stream).status == "0"
        assert client.verdict() == "fine"


def test_pings_whose_answers_are_not_read_are_not_read_either(serving_http2, watch_rss) -> None:
    with serving_http2(control_burst=10**9) as server, RawClient(server.address) as client:
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            client.socket.setsockopt(socket.SOL_SOCKET, buffer, 1 << 16)
        pings, sent, grown = memoryview(4096 * frame(PING, payload=bytes(8))), 0, watch_rss()
        client.socket.settimeout(0.3)
        with contextlib.suppress(socket.timeout):
            while sent < 32 * MIB:
                sent += client.socket.send(pings[sent % len(pings) :])
        assert sent < 32 * MIB
        assert grown() < 16 * MIB
        assert is_well(server)


def test_answers_that_are_not_taken_are_bounded_and_then_refused(serving_http2, watch_rss) -> None:
    with serving_http2(max_output_bytes=8 * MIB) as server, RawClient(server.address) as client:
        grown = watch_rss()
        client.send(b"".join(call(each, b"%d" % MIB, "/t.T/Sized") for each in range(1, 201, 2)))
        assert client.answer(199).status == "8"
        assert grown() < 40 * MIB
        assert server.open_calls() < 10
        client.send(window_update(0, 16 * MIB) + window_update(1, MIB))
        assert client.answer(1).body == message(bytes(MIB))
        client.send(b"".join(window_update(each, MIB) for each in range(3, 17, 2)))
        assert len(client.answer(15).body) == MIB + 5
        client.send(call(201, b"%d" % MIB, "/t.T/Sized") + window_update(201, MIB))
        assert len(client.answer(201).body) == MIB + 5


@pytest.mark.parametrize("windows", [b"", window_update(0, 1 << 30) + settings({4: 1 << 30})])
def test_a_reader_that_stops_is_dropped(serving_http2, quiet, windows: bytes) -> None:
    with serving_http2(send_timeout_s=0.1) as server, RawClient(server.address) as client:
        client.send(windows + call(1, b"%d" % (50 * MIB), "/t.T/Sized"))
        assert next(client.frames())
        while server.run(lambda: len(server.server)):
            pass
        assert is_well(server)
    quiet()


def test_a_lying_length_allocates_nothing(serving_http2, watch_rss) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        grown = watch_rss()
        piece = message(b"x", length=60 * MIB)
        client.send(b"".join(head(each) + frame(DATA, 0, each, piece) for each in range(1, 201, 2)))
        assert client.verdict() == "fine"
        assert grown() < 24 * MIB


def test_a_message_over_the_limit_is_thrown_away_as_it_comes(serving_http2, watch_rss) -> None:
    with serving_http2(max_message_bytes=MIB) as server, RawClient(server.address) as client:
        client.send(head(1) + frame(DATA, 0, 1, message(b"", length=1 << 31)))
        assert client.answer(1).status == "8"
        assert client.verdict() == "RST 1 NO_ERROR"
        grown = watch_rss()
        for _ in range(64):
            client.send(frame(DATA, 0, 1, bytes(MIB)))
        assert sum(each.kind == RST_STREAM for each in client.settled()) == 1
        assert grown() < 8 * MIB
        assert is_well(server)


@pytest.mark.parametrize(("nbytes", "status"), [(1000, "0"), (1001, "8")])
def test_a_message_in_one_piece_has_the_same_limit(serving_http2, nbytes: int, status: str) -> None:
    with serving_http2(max_message_bytes=1000) as server, RawClient(server.address) as client:
        client.send(call(1, bytes(nbytes)))
        assert client.answer(1).status == status


def test_a_message_that_comes_byte_by_byte_is_served(http2) -> None:
    with RawClient(http2.address, greet=False) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PREFACE + settings({}) + call(1):
            client.send(bytes([byte]))
        assert client.answer(1).body == message(b"hello")


@pytest.mark.parametrize("sent", ["", "half a preface", "half a head", "nothing after the preface", "a ping"])
def test_a_client_that_says_no_more_is_sent_away(serving_http2, quiet, sent: str) -> None:
    data = {
        "": b"",
        "half a preface": PREFACE[:12],
        "half a head": PREFACE + settings({}) + head(1)[:20],
        "nothing after the preface": PREFACE + settings({}),
        "a ping": PREFACE + settings({}) + frame(PING, payload=bytes(8)),
    }[sent]
    with serving_http2(idle_timeout_s=0.1) as server, RawClient(server.address, greet=False) as client:
        client.send(data)
        last = client.until_closed()[-1]
        assert (last.kind, last.payload[4:8]) == (GOAWAY, bytes(4))
    quiet()


def test_a_message_that_comes_too_slowly_is_refused_and_the_connection_goes_on(serving_http2) -> None:
    with serving_http2(body_timeout_s=0.1) as server, RawClient(server.address) as client:
        client.send(head(1) + frame(DATA, 0, 1, message(b"half", length=10)))
        assert client.answer(1).status == "4"
        client.send(frame(DATA, END_STREAM, 1, b"better late") + call(3))
        assert client.answer(3).body == message(b"hello")


def test_a_call_that_waits_keeps_an_idle_connection(serving_http2) -> None:
    with serving_http2(idle_timeout_s=0.05) as server, RawClient(server.address) as client:
        client.send(call(1, b"", "/t.T/Hold"))
        assert server.is_holding.acquire(timeout=20)
        client.socket.settimeout(0.3)
        with pytest.raises(socket.timeout):
            client.until_closed()
        assert server.open_calls() == 1


@pytest.mark.parametrize("at", [9, 60, 160, 100_000])
def test_a_connection_dropped_in_mid_message_leaves_nothing(http2, quiet, at: int) -> None:
    with RawClient(http2.address) as client:
        client.send((call(1, b"", "/t.T/Hold") + call(3, bytes(200_000)))[:at])
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert is_well(http2)
    assert http2.run(lambda: http2.held) == []
    quiet()


def test_connections_beyond_the_limit_are_dropped(serving_http2) -> None:
    with serving_http2(max_connections=2) as server:
        clients = [RawClient(server.address) for _ in range(3)]
        assert [each.verdict() for each in clients] == ["fine", "fine", "closed"]
        for each in clients:
            each.close()
        assert is_well(server)


def good_frames() -> list:
    return [
        settings({1: 4096, 4: 100_000, 5: 20_000}),
        head(1),
        frame(DATA, 8, 1, b"\x02" + message(b"hello") + b".."),
        frame(DATA, END_STREAM, 1),
        frame(0, 0, 3)[:3] + b"\x01\x00" + frame(0, 0, 3)[5:],
        frame(9, 4, 3, head(1)[9:]),
        frame(DATA, 0, 3, message(bytes(50_000))),
        head(3, [("x", "y")], END_STREAM),
        call(5, b"80000", "/t.T/Sized"),
        call(7, b"", "/t.T/Hold"),
        head(9, fields("/s.S/Said")),
        frame(DATA, 0, 9, message(b"later") + message(b"sized 9999") + message(b"echo")[:7]),
        frame(DATA, END_STREAM, 9, message(b"echo")[7:] + message(b"hold")),
        window_update(5, 1000),
        window_update(0, 100_000),
        rst_stream(7),
        rst_stream(9),
        frame(PRIORITY, 0, 5, bytes(5)),
        frame(PING, payload=b"pingping"),
        frame(99, 7, 9, b"unknown"),
        frame(GOAWAY, payload=bytes(8)),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_no_mutation_of_frames_hangs_or_kills_the_server(serving_http2, quiet, seed: int) -> None:
    rng = random.Random(seed)
    limits = {"idle_timeout_s": 0.2, "body_timeout_s": 0.2, "send_timeout_s": 0.2, "linger_s": 0.2}
    with serving_http2(**limits) as server:
        for _ in range(60):
            with RawClient(server.address) as client:
                client.send(changed_frames(good_frames(), rng))
                client.finished()
        assert is_well(server)
    quiet()
