"""Answers that a lane's thread sends while the loop may have something to send as well."""

from __future__ import annotations

import random
import socket
import struct
import time
from typing import Any, Iterator

import numpy as np
import pytest
from fakes.http2_client import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    RawClient,
    call,
    frame,
    message,
    rst_stream,
    settings,
    window_update,
)
from fakes.socket_transport import SocketTransport

from edge_runtime.scheduling.request import DELIVERED
from edge_runtime.server.http2.call import UnaryCall
from edge_runtime.server.http2.connection import Connection
from edge_runtime.server.http2.head import Head
from edge_runtime.server.http2.limits import Http2Limits
from edge_runtime.wire.messages import message as message_class

INFER = "/inference.GRPCInferenceService/ModelInfer"
RUN_S = 300e-6


def infer(stream_id: int, value: float, rows: int = 1) -> bytes:
    """A call that asks for the identity of four numbers in each row."""
    request = message_class("inference.ModelInferRequest")()
    request.model_name = "unhurried"
    tensor = request.inputs.add()
    tensor.name, tensor.datatype = "x", "FP32"
    tensor.shape.extend([rows, 4])
    request.raw_input_contents.append(np.full(4 * rows, value, np.float32).tobytes())
    return call(stream_id, request.SerializeToString(), INFER)


def values(body: bytes) -> list[float]:
    """The numbers in an answer's message, which must be whole."""
    assert message(body[5:]) == body
    response = message_class("inference.ModelInferResponse").FromString(body[5:])
    return [float(value) for value in np.frombuffer(response.raw_output_contents[0], np.float32)]


@pytest.fixture
def server(serving: Any, unhurried: Any) -> Iterator[Any]:
    with serving(unhurried) as started:
        yield started


@pytest.fixture
def raw(server: Any) -> Iterator[RawClient]:
    host, _, port = server.bound.grpc.rpartition(":")
    with RawClient((host, int(port))) as client:
        yield client


def test_calls_one_by_one_are_answered_in_full(server: Any, raw: RawClient) -> None:
    for number in range(400):
        raw.send(infer(2 * number + 1, number))
        answer = raw.answer(2 * number + 1)
        assert (values(answer.body), answer.status) == ([number] * 4, "0")
    assert server.counts("unhurried") == (400, 0)
    assert not [each for each in raw.seen if each.kind in (RST_STREAM, GOAWAY)]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_meanwhile_each_call_has_one_whole_answer(server: Any, raw: RawClient, seed: int) -> None:
    dice = random.Random(seed)
    pings, streams = 0, 0
    asked: dict[int, float] = {}
    for _ in range(300):
        for _ in range(dice.choice([1, 1, 1, 2, 3])):
            asked[2 * streams + 1] = streams
            raw.send(infer(2 * streams + 1, streams))
            streams += 1
        for _ in range(dice.choice([0, 1, 1, 2])):
            time.sleep(dice.uniform(0, 1.2) * RUN_S)
            kind = dice.choice(["ping", "window", "settings"])
            if kind == "ping":
                raw.send(frame(PING, payload=struct.pack(">Q", pings)))
                pings += 1
            else:
                raw.send(window_update(0, 1) if kind == "window" else settings({}))
        raw.answer(2 * streams - 1)
    for stream_id, value in asked.items():
        answer = raw.answer(stream_id)
        assert (values(answer.body), answer.status) == ([value] * 4, "0")
    raw.settled()
    for stream_id in asked:
        own = [(each.kind, each.is_end) for each in raw.seen if each.stream_id == stream_id]
        assert own == [(HEADERS, False), (DATA, False), (HEADERS, True)]
    acks = [each.payload for each in raw.seen if each.kind == PING][:-1]
    assert acks == [struct.pack(">Q", number) for number in range(pings)]
    assert not [each for each in raw.seen if each.kind in (RST_STREAM, GOAWAY)]
    assert server.counts("unhurried") == (streams, 0)


def test_a_call_that_is_taken_back_at_any_moment_does_not_disturb_the_next(raw: RawClient) -> None:
    dice = random.Random(5)
    for number in range(150):
        stream = 4 * number + 1
        raw.send(infer(stream, number))
        time.sleep(dice.uniform(0, 1.5) * RUN_S)
        raw.send(rst_stream(stream) + infer(stream + 2, number + 0.5))
        assert values(raw.answer(stream + 2).body) == [number + 0.5] * 4


def test_a_small_window_is_kept_to(server: Any) -> None:
    host, _, port = server.bound.grpc.rpartition(":")
    with RawClient((host, int(port)), values={4: 20}) as client:  # SETTINGS_INITIAL_WINDOW_SIZE
        client.send(infer(1, 7))
        client.settled()
        time.sleep(0.05)
        found = client.settled()
        assert sum(len(each.payload) for each in found if each.kind == DATA) == 20
        client.send(window_update(1, 1000))
        assert values(client.answer(1).body) == [7] * 4


def test_the_connections_window_counts_what_lanes_sent(raw: RawClient) -> None:
    raw.send(infer(1, 0, rows=8))
    size = len(raw.answer(1).body)
    whole, rest = divmod((1 << 16) - 1, size)
    for number in range(1, whole):
        raw.send(infer(2 * number + 1, number, rows=8))
        assert len(raw.answer(2 * number + 1).body) == size
    raw.send(infer(2 * whole + 1, 3, rows=8))
    raw.settled()
    time.sleep(0.05)
    assert (
        sum(len(each.payload) for each in raw.settled() if each.stream_id == 2 * whole + 1 and each.kind == DATA)
        == rest
    )
    raw.send(window_update(0, 1000))
    assert values(raw.answer(2 * whole + 1).body) == [3] * 32


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and the client's end of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(Http2Limits(), "peer", lambda: None, 0)
        monkeypatch.setattr(connection.direct, "transport", SocketTransport(ours))
        yield connection, theirs
        connection.direct.socket.close()


def begun(connection: Connection, stream_id: int) -> UnaryCall:
    """A call that is whole."""
    call = UnaryCall(connection, stream_id, Head([], 100), 0, 1 << 16)
    call.is_ended = True
    connection.streams.calls[stream_id] = call
    return call


def test_a_late_word_of_one_answer_does_not_lose_the_next(pair: tuple[Connection, socket.socket]) -> None:
    connection, client = pair
    window = connection.outbox.window
    calls = []
    for stream_id in (1, 3):
        calls.append(begun(connection, stream_id))
        deliver = calls[-1].offer()
        assert deliver is not None
        assert deliver(b"answer") is DELIVERED
        assert client.recv(1 << 16)
        if stream_id == 1:
            connection.settle()  # the next call came before the loop heard of the first
    for each in calls:
        each.delivered(DELIVERED)
    assert not connection.streams.calls
    assert connection.outbox.window == window - 2 * len(b"\0\0\0\0\0answer")


def test_an_answer_past_the_loop_does_not_overdraw_the_window_that_another_used(
    pair: tuple[Connection, socket.socket],
) -> None:
    connection, client = pair
    deliver = begun(connection, 1).offer()
    assert deliver is not None
    begun(connection, 3).reply(bytes(connection.outbox.window - 100))
    assert deliver(bytes(200)) == bytes(200)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_an_answer_past_the_loop_counts_before_the_next_is_framed(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair
    window = connection.outbox.window
    deliver = begun(connection, 1).offer()
    assert deliver is not None
    second = begun(connection, 3)
    assert deliver(bytes(95)) is DELIVERED
    second.reply(bytes(window - 50))
    assert connection.outbox.window == 0
