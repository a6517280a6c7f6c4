"""The trace of a call in the trailers of its answer, however that is sent."""

from __future__ import annotations

import pytest
from fakes.http2_client import (
    DATA,
    END_STREAM,
    HEADERS,
    Fields,
    RawClient,
    fields,
    frame,
    head,
    message,
    settings,
    window_update,
)

from edge_runtime.server.http2.head import Head

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MIB = 1 << 20


def pairs(path: str, **changes: str) -> Fields:
    return [*fields(path, **changes), ("traceparent", TRACE)]


def call(stream_id: int, body: bytes, path: str) -> bytes:
    return head(stream_id, pairs(path)) + frame(DATA, END_STREAM, stream_id, message(body))


@pytest.mark.parametrize(
    "method", ["t.T/Echo", "t.T/Later", "t.T/Fail", "t.T/Raise", "t.T/None", "s.S/Echo", "s.S/Fail"]
)
def test_it_is_in_the_last_frame_and_there_alone(client: RawClient, method: str) -> None:
    client.send(call(1, b"hello", f"/{method}"))
    assert client.answer().fields["traceparent"] == TRACE
    blocks = [TRACE.encode() in each.payload for each in client.settled() if each.kind == HEADERS]
    assert blocks == [False, True][-len(blocks) :]


@pytest.mark.parametrize("method", ["t.T/Sized", "s.S/Sized"])
def test_an_answer_that_waits_for_its_window_has_it_behind_the_message(client: RawClient, method: str) -> None:
    client.send(settings({4: 10}) + window_update(0, MIB) + call(1, b"1000", f"/{method}"))
    assert TRACE.encode() not in b"".join(each.payload for each in client.settled())
    client.send(window_update(1, MIB))
    answer = client.answer()
    assert (answer.body, answer.status, answer.fields["traceparent"]) == (message(bytes(1000)), "0", TRACE)


def test_a_stream_without_a_message_has_it(client: RawClient) -> None:
    client.send(head(1, pairs("/s.S/Echo"), END_STREAM))
    assert (client.answer().status, client.answer().fields["traceparent"]) == ("0", TRACE)


def test_what_is_no_grpc_has_it_as_a_header(client: RawClient) -> None:
    client.send(head(1, pairs("/t.T/Echo", content_type="text/plain"), END_STREAM))
    assert (client.answer().fields[":status"], client.answer().fields["traceparent"]) == ("415", TRACE)


def test_the_next_call_without_one_has_none(client: RawClient) -> None:
    client.send(call(1, b"a", "/t.T/Echo") + head(3) + frame(DATA, END_STREAM, 3, message(b"a")))
    assert "traceparent" in client.answer(1).fields
    assert "traceparent" not in client.answer(3).fields


@pytest.mark.parametrize("more", ["nonsense", TRACE])
def test_several_are_none(more: str) -> None:
    received = [(name.encode(), value.encode()) for name, value in [*pairs("/t.T/Echo"), ("traceparent", more)]]
    assert Head(received[:-1], 10_000).traceparent == TRACE
    assert Head(received, 10_000).traceparent is None
