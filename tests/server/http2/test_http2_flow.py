"""Windows, both ways: what waits, what goes on, and what is too much."""

from __future__ import annotations

import itertools

import pytest
from fakes.http2_client import (
    DATA,
    END_STREAM,
    HEADERS,
    WINDOW_UPDATE,
    Frame,
    RawClient,
    call,
    frame,
    head,
    message,
    rst_stream,
    settings,
    window_update,
)

MIB = 1 << 20


def data_bytes(frames: list[Frame], stream_id: int) -> int:
    return sum(len(each.payload) for each in frames if each.kind == DATA and each.stream_id == stream_id)


def increments(frames: list[Frame], stream_id: int) -> int:
    updates = [each for each in frames if each.kind == WINDOW_UPDATE and each.stream_id == stream_id]
    return sum(int.from_bytes(each.payload, "big") for each in updates)


def sized(stream_id: int, nbytes: int) -> bytes:
    return call(stream_id, b"%d" % nbytes, "/t.T/Sized")


def test_an_answer_stops_at_the_connections_window_and_goes_on(client: RawClient) -> None:
    client.send(settings({4: MIB}) + sized(1, 100_000))
    assert data_bytes(client.settled(), 1) == 65_535
    client.send(window_update(0, 1))
    assert data_bytes(client.settled(), 1) == 65_536
    client.send(window_update(0, MIB))
    assert client.answer(1).body == message(bytes(100_000))


def test_an_answer_stops_at_its_streams_window_and_others_do_not(client: RawClient) -> None:
    client.send(settings({4: 10}) + window_update(0, MIB) + sized(1, 1000) + sized(3, 5))
    assert (data_bytes(client.settled(), 1), client.answer(3).body) == (10, message(bytes(5)))
    client.send(window_update(1, 990))
    assert data_bytes(client.settled(), 1) == 1000
    client.send(window_update(1, 5))
    assert client.answer(1).body == message(bytes(1000))


def test_a_window_may_become_negative_and_must_be_opened_from_there(client: RawClient) -> None:
    client.send(settings({4: 1000}) + sized(1, 2000))
    assert data_bytes(client.settled(), 1) == 1000
    client.send(settings({4: 100}) + window_update(1, 900))
    assert data_bytes(client.settled(), 1) == 1000
    client.send(window_update(1, 1))
    assert data_bytes(client.settled(), 1) == 1001
    client.send(settings({4: 3000}))
    assert client.answer(1).body == message(bytes(2000))


def test_a_queued_answer_whose_window_shrinks_waits(client: RawClient) -> None:
    client.send(settings({4: MIB}) + sized(1, 100_000) + settings({4: 100}) + window_update(0, MIB))
    assert data_bytes(client.settled(), 1) == 65_535
    client.send(settings({4: MIB}))
    assert client.answer(1).body == message(bytes(100_000))


def test_answers_on_one_connection_take_turns(client: RawClient) -> None:
    client.send(settings({4: MIB}) + sized(1, 500_000) + sized(3, 500_000))
    at = len(client.settled())
    client.send(window_update(0, MIB))
    assert [len(client.answer(each).body) for each in (1, 3)] == [500_005, 500_005]
    turns = [each.stream_id for each in client.seen[at:] if each.kind == DATA][:40]
    assert max(len(list(turn)) for _, turn in itertools.groupby(turns)) <= 4


def test_a_large_answer_goes_on_by_itself(client: RawClient, http2) -> None:
    client.settled()
    http2.run(http2.server._timer.cancel)
    client.send(settings({4: 1 << 30}) + window_update(0, 1 << 30) + sized(1, 30 * MIB))
    assert len(client.answer(1).body) == 30 * MIB + 5


@pytest.mark.parametrize("size", [16_384, 20_000, 1 << 24])
def test_frames_are_no_longer_than_the_client_takes(client: RawClient, size: int) -> None:
    client.send(settings({4: MIB, 5: min(size, (1 << 24) - 1)}) + window_update(0, MIB) + sized(1, 200_000))
    assert client.answer(1).body == message(bytes(200_000))
    longest = max(len(each.payload) for each in client.seen if each.kind == DATA)
    assert longest <= size
    assert longest >= min(size, 200_000)


@pytest.mark.parametrize("window", [10, MIB])
def test_a_reset_ends_an_answer_that_waits(serving_http2, window: int) -> None:
    def queued() -> int:
        return sum(each._connection.outbox.queued_bytes for each in server.server._connections)

    with serving_http2() as server, RawClient(server.address) as client:
        client.send(settings({4: window}) + sized(1, 100_000))
        came = data_bytes(client.settled(), 1)
        assert server.run(queued) > 0
        client.send(rst_stream(1))
        client.settled()
        client.send(window_update(0, MIB) + settings({4: MIB}))
        assert data_bytes(client.settled(), 1) == came
        assert (server.run(queued), server.open_calls()) == (0, 0)


def test_a_reply_after_a_reset_sends_nothing(serving_http2) -> None:
    with serving_http2() as server, RawClient(server.address) as client:
        client.send(call(1, b"", "/t.T/Hold"))
        client.settled()
        (held,) = server.held
        client.send(rst_stream(1))
        client.settled()
        server.run(lambda: (held.reply(b"late"), held.fail("INTERNAL", "late")))
        assert not [each for each in client.settled() if each.stream_id == 1]


def test_a_long_message_gets_its_window_when_its_length_is_known(client: RawClient) -> None:
    client.send(head(1) + frame(DATA, 0, 1, message(b"", length=MIB)))
    assert increments(client.settled(), 1) == MIB
    body = bytes(range(256)) * (MIB // 256)
    for at in range(0, MIB, 1 << 16):
        client.send(frame(DATA, END_STREAM if at + (1 << 16) == MIB else 0, 1, body[at : at + (1 << 16)]))
    client.send(settings({4: 2 * MIB}) + window_update(0, 2 * MIB))
    assert client.answer(1).body == message(body)


def test_long_messages_wait_for_one_another_beyond_the_limit(serving_http2) -> None:
    limits = {"max_unanswered_bytes": MIB, "stream_window_bytes": 1 << 17}
    opening = b"".join(head(each) + frame(DATA, 0, each, message(b"", length=MIB)) for each in (1, 3, 5))
    with serving_http2(**limits) as server, RawClient(server.address) as client:
        client.send(opening)
        found = client.settled()
        assert [increments(found, each) for each in (1, 3, 5)] == [MIB, 0, 0]
        client.send(rst_stream(3) + rst_stream(1))
        found = client.settled()
        assert [increments(found, each) for each in (1, 3, 5)] == [MIB, 0, MIB]


def test_a_waiting_message_that_is_taken_back_frees_no_room_of_others(serving_http2) -> None:
    limits = {"max_unanswered_bytes": MIB, "stream_window_bytes": 1 << 17}
    opening = [head(each) + frame(DATA, 0, each, message(b"", length=MIB)) for each in (1, 3, 5)]
    with serving_http2(**limits) as server, RawClient(server.address) as client:
        client.send(opening[0] + opening[1] + rst_stream(3) + opening[2])
        found = client.settled()
        assert [increments(found, each) for each in (1, 3, 5)] == [MIB, 0, 0]


def test_data_over_a_streams_window_resets_it(serving_http2) -> None:
    limits = {"max_unanswered_bytes": MIB, "stream_window_bytes": 1 << 17}
    opening = b"".join(head(each) + frame(DATA, 0, each, message(b"", length=MIB)) for each in (1, 3))
    with serving_http2(**limits) as server, RawClient(server.address) as client:
        client.send(opening + frame(DATA, 0, 3, bytes((1 << 17) - 5)))
        assert client.verdict() == "fine"
        client.send(frame(DATA, 0, 3, b"x"))
        assert client.verdict() == "RST 3 FLOW_CONTROL_ERROR"


def test_the_connections_window_is_refilled_until_too_much_waits_for_answers(serving_http2) -> None:
    limits = {"max_unanswered_bytes": MIB, "stream_window_bytes": MIB, "connection_window_bytes": MIB}
    with serving_http2(**limits) as server, RawClient(server.address) as client:
        before = increments(client.settled(), 0)
        for stream in range(1, 18, 2):
            client.send(call(stream, bytes(200_000), "/t.T/Hold"))
        held = increments(client.settled(), 0) - before
        assert MIB <= held < 1_600_000
        server.release()
        assert increments(client.settled(), 0) - before > held
        client.send(call(19, bytes(200_000)))
        assert client.verdict() == "fine"


def test_data_over_the_connections_window_ends_it(serving_http2) -> None:
    limits = {"max_unanswered_bytes": MIB, "stream_window_bytes": MIB, "connection_window_bytes": MIB}
    with serving_http2(**limits) as server, RawClient(server.address) as client:
        for stream in range(1, 33, 2):
            client.send(call(stream, bytes(200_000), "/t.T/Hold"))
        assert client.verdict() == "GOAWAY FLOW_CONTROL_ERROR"
        assert server.run(lambda: len(server.held)) == 0


def test_padding_is_given_back(client: RawClient) -> None:
    client.send(head(1) + 1000 * frame(DATA, 8, 1, b"\xff" + bytes(255)))
    found = client.settled()
    assert client.verdict() == "fine"
    assert increments(found, 1) == 1000 * 256
    client.send(frame(DATA, END_STREAM, 1, message(b"hello")))
    assert client.answer(1).body == message(b"hello")


def test_a_client_that_needs_a_smaller_table_is_told_that_it_is_empty(client: RawClient) -> None:
    client.decoder.max_allowed_table_size = 0
    client.send(settings({1: 0}) + call(1) + call(3))
    assert [client.answer(each).body for each in (1, 3)] == 2 * [message(b"hello")]
    heads = [each.payload for each in client.seen if each.kind == HEADERS]
    assert [payload[:1] == b"\x20" for payload in heads] == [True, False, False, False]
