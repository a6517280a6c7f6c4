"""Streams of many messages on the wire: order, ends, windows, and what is wrong with them."""

from __future__ import annotations

import gzip
import struct
from typing import Any, Sequence

import pytest
from fakes.http2_client import (
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    WINDOW_UPDATE,
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

KIB, MIB = 1 << 10, 1 << 20
WIDE = settings({4: 1 << 30}) + window_update(0, 1 << 30)


def opened(method: str, stream_id: int = 1, **changes: str) -> bytes:
    return head(stream_id, fields(f"/s.S/{method}", **changes))


def sent(*bodies: bytes, stream_id: int = 1) -> bytes:
    return b"".join(frame(DATA, 0, stream_id, message(body)) for body in bodies)


def ended(stream_id: int = 1) -> bytes:
    return frame(DATA, END_STREAM, stream_id)


def bodies(data: bytes) -> list[bytes]:
    """The messages in what came."""
    found = []
    while data:
        size = struct.unpack(">xL", data[:5])[0]
        assert len(data) >= 5 + size
        found.append(data[5 : 5 + size])
        data = data[5 + size :]
    return found


def came(client: RawClient, stream_id: int = 1) -> list[bytes]:
    """The messages that came until the server had taken in all that was sent."""
    return bodies(
        b"".join(each.payload for each in client.settled() if (each.kind, each.stream_id) == (DATA, stream_id))
    )


def allowed(client: RawClient, stream_id: int = 1) -> int:
    """By how much the stream's window was opened."""
    updates = [each.payload for each in client.settled() if (each.kind, each.stream_id) == (WINDOW_UPDATE, stream_id)]
    return sum(int.from_bytes(each, "big") for each in updates)


def held(server: Any) -> list[bytes]:
    return server.run(lambda: [bytes(each.message) for each in server.held])


def numbered(count: int) -> list[bytes]:
    return [b"%d" % each for each in range(count)]


@pytest.mark.parametrize("step", [1, 3, 10, 100, 10_000])
@pytest.mark.parametrize("length", [1, 4, 9, 10_000])
def test_messages_are_what_they_are_however_they_were_cut(client: RawClient, step: int, length: int) -> None:
    data = b"".join(message(bytes([each]) * each) for each in range(40))
    frames = b"".join(frame(DATA, 0, 1, data[at : at + length]) for at in range(0, len(data), length))
    parts = opened("Echo") + frames + ended()
    for at in range(0, len(parts), step):
        client.send(parts[at : at + step])
    assert bodies(client.answer().body) == [bytes([each]) * each for each in range(40)]
    assert client.answer().status == "0"


def test_answers_go_out_in_the_order_of_the_requests(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(opened("Said") + sent(b"hold 0", b"echo 1", b"hold 2", b"later 3", b"echo 4") + ended())
        assert came(client) == []
        server.run(lambda: server.held[1].reply(b"two"))
        assert came(client) == []
        server.run(lambda: server.held[0].reply(b"nought"))
        assert bodies(client.answer().body) == [b"nought", b"echo 1", b"two", b"later 3", b"echo 4"]
        assert client.answer().status == "0"
        assert server.open_calls() == 0


def test_each_answer_goes_out_when_it_is_there(client: RawClient) -> None:
    client.send(opened("Echo"))
    for each in numbered(5):
        client.send(sent(each))
        assert came(client)[-1] == each
    assert not any(each.is_end for each in client.seen)
    client.send(ended())
    assert client.answer().status == "0"
    heads = [each for each in client.seen if each.kind == HEADERS]
    assert [len(client.answer().body) // 6, len(heads)] == [5, 2]


@pytest.mark.parametrize("end", [ended(), head(1, [("x", "trailer")], END_STREAM)])
def test_a_stream_of_nothing_ends_well(client: RawClient, end: bytes) -> None:
    client.send(opened("Echo") + end)
    assert client.answer() == ({":status": "200", "content-type": "application/grpc", "grpc-status": "0"}, b"")


def test_a_failure_takes_its_place_in_the_order(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(opened("Said") + sent(b"hold 0", b"hold 1", b"hold 2"))
        client.settled()
        server.run(lambda: server.held[1].fail("NOT_FOUND", "made up"))
        assert server.is_cancelled.acquire(timeout=20)
        assert held(server) == [b"hold 0", b"hold 1"]
        client.send(sent(b"echo 3"))
        assert came(client) == []
        server.run(lambda: server.held[0].reply(b"nought"))
        answer = client.answer()
        assert (bodies(answer.body), answer.status, answer.fields["grpc-message"]) == ([b"nought"], "5", "made up")
        client.send(sent(b"ignored") + call(3))
        assert client.answer(3).status == "0"


@pytest.mark.parametrize(("method", "status"), [("Fail", "5"), ("Raise", "13")])
def test_a_failure_alone_is_all_that_is_said(client: RawClient, method: str, status: str) -> None:
    client.send(opened(method) + sent(b"x", b"y") + ended())
    answer = client.answer()
    assert (answer.status, answer.body) == (status, b"")


BROKEN = {
    "garbage": (frame(DATA, 0, 1, b"\xff" * 100), "3"),
    "over the limit": (frame(DATA, 0, 1, message(b"", length=MIB + 1)), "8"),
    "a lying length": (frame(DATA, END_STREAM, 1, message(b"x", length=100)), "3"),
    "half a prefix": (frame(DATA, END_STREAM, 1, b"\0\0"), "3"),
    "compressed by no way": (frame(DATA, 0, 1, message(b"x", flag=1)), "3"),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_no_message_ends_the_stream_after_the_answers_before(client: RawClient, fault, at_once) -> None:
    data, status = BROKEN[fault]
    client.send(opened("Later") + sent(b"before"))
    if not at_once:
        client.settled()
    client.send(data)
    answer = client.answer()
    assert (bodies(answer.body), answer.status) == ([b"before"], status)
    client.send(frame(DATA, 0, 1, bytes(1000)) + call(3))
    assert client.answer(3).status == "0"


def test_messages_may_be_compressed_and_a_bomb_is_bounded(client: RawClient, watch_rss) -> None:
    packed, bomb = (gzip.compress(data) for data in (b"hello", bytes(64 * MIB)))
    grown = watch_rss()
    body = message(packed, flag=1) + message(b"plain") + message(bomb, flag=1)
    client.send(opened("Echo", grpc_encoding="gzip") + frame(DATA, 0, 1, body))
    answer = client.answer()
    assert (bodies(answer.body), answer.status) == ([b"hello", b"plain"], "8")
    assert grown() < 16 * MIB


def test_only_so_many_requests_are_under_way_and_the_window_stays_shut(serving_http2) -> None:
    limits = {"max_stream_requests": 4, "stream_window_bytes": 64 * KIB}
    with serving_http2(**limits) as server, RawClient(server.address) as client:
        client.send(WIDE + opened("Hold") + sent(*[b"%04d" % each + bytes(6 * KIB) for each in range(10)]))
        client.settled()
        assert [each[:4] for each in held(server)] == [b"%04d" % each for each in range(4)]
        assert allowed(client) == 0
        for each in range(10):
            server.run(lambda: server.held.pop(0).reply(b"done"))
            assert came(client) == (each + 1) * [b"done"]
        assert 32 * KIB <= allowed(client) <= 64 * KIB


def test_only_so_many_bytes_are_under_way_answers_included(serving_http2) -> None:
    limits = {"max_stream_bytes": 100 * KIB}
    with serving_http2(**limits) as server, RawClient(server.address) as client:
        client.send(opened("Said") + sent(*[b"hold " + bytes(40 * KIB)] * 5))
        client.settled()
        assert len(held(server)) == 3
        server.run(lambda: server.held.pop(1).reply(bytes(90 * KIB)))
        client.settled()
        assert len(held(server)) == 2
        client.send(WIDE)
        server.run(lambda: server.held.pop(0).reply(b""))
        assert [len(each) for each in came(client)] == [0, 90 * KIB]
        assert len(held(server)) == 3


def test_a_client_that_reads_nothing_is_served_no_more_and_one_that_reads_again_gets_all(serving_http2) -> None:
    with serving_http2(max_stream_requests=4) as server, RawClient(server.address) as client:
        client.send(opened("Sized") + sent(*[b"%d" % (20 * KIB + each) for each in range(30)]) + ended())
        client.settled()
        assert 3 <= server.count < 12
        client.send(window_update(0, MIB) + window_update(1, MIB))
        assert [len(each) for each in bodies(client.answer().body)] == [20 * KIB + each for each in range(30)]
        assert client.answer().status == "0"


def test_a_client_that_stops_reading_a_stream_is_dropped(serving_http2, quiet) -> None:
    with serving_http2(send_timeout_s=0.1) as server, RawClient(server.address) as client:
        client.send(opened("Sized") + sent(*[b"%d" % (20 * KIB)] * 30))
        client.until_closed()
        assert server.run(lambda: len(server.server)) == 0
    quiet()


def test_answers_beyond_the_connections_limit_end_the_stream(serving_http2) -> None:
    with serving_http2(max_output_bytes=MIB) as server, RawClient(server.address) as client:
        client.send(opened("Said") + sent(b"hold", *[b"sized %d" % (300 * KIB)] * 8))
        client.settled()
        server.release()
        client.send(WIDE)
        answer = client.answer()
        assert (len(bodies(answer.body)), answer.status) == (4, "8")


def test_long_messages_come_one_after_another(serving_http2) -> None:
    with serving_http2(stream_window_bytes=64 * KIB) as server, RawClient(server.address) as client:
        client.send(WIDE + opened("Echo"))
        for each in range(4):
            body = bytes([each]) * (300 * KIB)
            client.send(frame(DATA, 0, 1, message(body)[: 60 * KIB]))
            before = allowed(client)
            assert before >= (each + 1) * 300 * KIB
            for at in range(60 * KIB, 300 * KIB + 5, 100 * KIB):
                client.send(frame(DATA, 0, 1, message(body)[at : at + 100 * KIB]))
            assert came(client)[-1] == body
        client.send(ended())
        assert client.answer().status == "0"


@pytest.mark.parametrize("size", [65_531, 65_530, 40_000, 1])
def test_a_window_is_given_back_however_messages_fit_in_it(serving_http2, size: int) -> None:
    with serving_http2(stream_window_bytes=1 << 16) as server, RawClient(server.address) as client:
        client.send(WIDE + opened("Echo"))
        data, window = message(bytes(size)) * 20, 1 << 16
        while data:
            window = (1 << 16) + allowed(client) - (20 * (size + 5) - len(data))
            assert window > 0
            client.send(frame(DATA, 0, 1, data[:window]))
            data = data[window:]
        assert len(came(client)) == 20


def test_data_over_the_window_resets_the_stream(serving_http2) -> None:
    with serving_http2(stream_window_bytes=1 << 16) as server, RawClient(server.address) as client:
        client.send(opened("Hold") + sent(*[bytes(5 * KIB)] * 30))
        assert client.verdict() == "RST 1 FLOW_CONTROL_ERROR"
        assert held(server) == []


@pytest.mark.parametrize("end", ["reset", "lost"])
def test_all_that_is_under_way_is_cancelled(serving_http2, quiet, end: str) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(opened("Hold") + sent(*numbered(20)))
        client.settled()
        client.send(rst_stream(1)) if end == "reset" else client.close()
        for _ in range(16):
            assert server.is_cancelled.acquire(timeout=20)
        assert (held(server), server.count, server.open_calls()) == ([], 16, 0)
    quiet()


def test_answers_after_a_reset_go_nowhere(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(opened("Hold") + sent(b"0", b"1"))
        client.settled()
        first, second = server.held
        client.send(rst_stream(1))
        client.settled()
        server.run(lambda: (second.reply(b"late"), first.fail("INTERNAL", "late")))
        assert not [each for each in client.settled() if each.stream_id == 1]


def test_a_drain_ends_a_stream_after_the_answers_of_what_it_brought(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(opened("Hold") + opened("Echo", 3) + sent(b"it"))
        client.settled()
        server.run(server.server.begin_drain)
        client.send(sent(b"more"))
        assert client.answer(3).status == "14"
        assert held(server) == [b"it"]
        server.release()
        answer = client.answer()
        assert (bodies(answer.body), answer.status) == ([b"released it"], "14")


def test_a_streams_own_time_ends_it_and_what_is_under_way(serving_http2) -> None:
    with serving_http2(idle_timeout_s=0.1) as server, RawClient(server.address) as client:
        client.send(opened("Said", grpc_timeout="200m") + sent(b"echo", b"facts", b"hold"))
        answer = client.answer()
        assert (bodies(answer.body)[0], answer.status) == (b"echo", "4")
        timeout_ns = eval(bodies(answer.body)[1])["timeout_ns"]
        assert 0 < timeout_ns <= 200_000_000
        assert server.is_cancelled.acquire(timeout=20)


def test_a_message_that_comes_too_slowly_ends_the_stream(serving_http2) -> None:
    with serving_http2(body_timeout_s=0.1) as server, RawClient(server.address) as client:
        client.send(opened("Echo") + sent(b"whole") + frame(DATA, 0, 1, message(b"half", length=10)))
        answer = client.answer()
        assert (bodies(answer.body), answer.status) == ([b"whole"], "4")


def test_a_silent_stream_stays_as_long_as_its_client_answers_pings(serving_http2) -> None:
    with serving_http2(idle_timeout_s=0.1, body_timeout_s=0.1) as server, RawClient(server.address) as client:
        client.send(opened("Echo"))
        pings = (each for each in client.frames() if each.kind == PING and not each.flags)
        for _ in range(4):
            client.send(frame(PING, 1, 0, next(pings).payload))
        client.send(sent(b"still here"))
        assert came(client) == [b"still here"]
        client.until_closed()
        assert server.run(lambda: len(server.server)) == 0


def test_a_flood_of_tiny_messages_neither_grows_nor_keeps_others_waiting(serving_http2, watch_rss) -> None:
    with serving_http2() as server, RawClient(server.address) as flood, RawClient(server.address) as other:
        grown = watch_rss()
        flood.send(opened("Hold") + frame(DATA, 0, 1, message(b"") * 150_000))
        flood.settled()
        assert server.count == 16
        other.send(call(1))
        assert other.answer().status == "0"
        assert grown() < 8 * MIB


def test_many_bad_requests_are_answered_in_turns_with_others(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as many, RawClient(server.address) as other:
        many.send(WIDE + opened("Echo") + frame(DATA, 0, 1, message(b"") * 100_000))
        next(each for each in many.frames() if each.kind == DATA)
        other.send(call(1))
        assert other.answer().status == "0"
        assert server.count < 100_000
        many.send(ended())
        assert next(each for each in many.frames() if each.is_end)
        assert sum(each.kind == DATA for each in many.seen) == 100_000


def test_a_window_update_for_each_answer_is_no_flood(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(opened("Echo"))
        for _ in range(250):
            client.send((sent(b"x") + window_update(0, 6) + window_update(1, 6)) * 50)
            client.settled()
            client.seen.clear()
        assert server.count == 12_500
        assert client.verdict() == "fine"


def test_a_hundred_streams_cancelled_at_once_leave_nothing(serving_http2, quiet) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        streams: Sequence[int] = range(1, 201, 2)
        for each in streams:
            client.send(opened("Hold", each) + sent(*numbered(3), stream_id=each))
        client.settled()
        assert len(held(server)) == 300
        client.send(b"".join(rst_stream(each) for each in streams))
        assert client.verdict() == "fine"
        assert (held(server), server.open_calls()) == ([], 0)
        client.send(call(201))
        assert client.answer(201).status == "0"
    quiet()


def test_streams_and_unary_calls_share_a_connection(client: RawClient) -> None:
    client.send(opened("Later") + sent(b"0") + call(3) + sent(b"1") + ended())
    assert client.answer(3).body == message(b"hello")
    assert bodies(client.answer().body) == [b"0", b"1"]
    assert not [each for each in client.seen if each.kind == RST_STREAM]
