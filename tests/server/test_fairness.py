"""A client with many requests under way, and another with one: over every transport the other's is next."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Iterator

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edge_runtime.client.lane import Frames
from edge_runtime.wire.lane import LaneOpen

METHOD = "/inference.GRPCInferenceService/ModelInfer"
FLOOD = 64
GENEROUS_S = 3600.0  # the time limit of a call is its deadline, and a run takes as long as a slow machine lets it
HOG, GOOD = 1.0, 2.0
HOG_PROCESS = """
import sys
import grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    infer = channel.unary_unary(sys.argv[2])
    calls = [infer.future(bytes.fromhex(sys.argv[3]), timeout=3600) for _ in range(int(sys.argv[4]))]
    print(sum(call.exception(timeout=60) is None for call in calls), flush=True)
"""


def grpc_bytes(value: float) -> bytes:
    message = service_pb2.ModelInferRequest(model_name="gated", raw_input_contents=[row(value)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    return message.SerializeToString()


def row(value: float) -> bytes:
    return np.full(4, value, np.float32).tobytes()


@pytest.fixture
def ran(gated) -> list[float]:
    """The first value of each run's input, as the runs begin."""
    values: list[float] = []
    run = gated.run

    def noted() -> Any:
        values.append(float(gated._array[0, 0]))
        return run()

    gated.run = noted
    return values


def until_pending(server: Any, count: int) -> None:
    """Asks again and again how many wait; what it asks is the server, so it gives way to it."""
    for _ in range(100_000):
        lines = server.ask("GET", "/metrics").body.decode().splitlines()
        if (
            int(next(line for line in lines if line.startswith("nv_inference_pending_request_count{")).split()[-1])
            == count
        ):
            return
    raise AssertionError(f"never {count} pending")


@contextlib.contextmanager
def channel_to(target: str) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


@contextlib.contextmanager
def grpc_hog(server: Any) -> Iterator[Callable[[], int]]:
    """64 calls at once on one connection; how many were answered."""
    with channel_to(server.bound.grpc) as channel:
        infer = channel.unary_unary(METHOD)
        calls = [infer.future(grpc_bytes(HOG), timeout=GENEROUS_S) for _ in range(FLOOD)]
        yield lambda: sum(call.exception(timeout=60) is None for call in calls)


@contextlib.contextmanager
def unix_hog(server: Any) -> Iterator[Callable[[], int]]:
    """The same from another process, on the Unix socket."""
    arguments = [f"unix:{server.bound.unix}", METHOD, grpc_bytes(HOG).hex(), str(FLOOD)]
    process = subprocess.Popen([sys.executable, "-c", HOG_PROCESS, *arguments], stdout=subprocess.PIPE)
    with process:
        yield lambda: int(process.communicate(timeout=30)[0])


def http_answer(
    connection: socket.socket, http_message: Any, http_replies: Any, good_head: Any, **options: Any
) -> bool:
    head = json.dumps({**good_head(), **options}).encode()
    lengths = {"Inference-Header-Content-Length": str(len(head))}
    with connection:
        connection.sendall(http_message("POST", "/v2/models/gated/infer", head + row(GOOD), lengths))
        return next(http_replies(connection, 1)).status == 200  # type: ignore[no-any-return]


def grpc_answer(target: str) -> bool:
    with channel_to(target) as channel:
        return bool(channel.unary_unary(METHOD)(grpc_bytes(GOOD), timeout=GENEROUS_S))


def lane_answer(frames: Frames) -> bool:
    with frames:
        frames[0].inputs["x"].fill(GOOD)
        frames[0].run()
        return bool((frames[0].outputs["y"] == GOOD).all())


def opened_frames(path: str, gated: Any, ran: list[float]) -> Frames:
    """A frame of the model, whose outputs' shapes the server finds out by two runs."""
    gated.release(2)
    frames = Frames(path, LaneOpen("gated", "", {"x": (1, 4)}), 30)
    ran.clear()
    return frames


def on_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(path)
    return connection


@pytest.fixture(params=["http", "http json", "grpc", "unix http", "unix grpc", "lane"])
def good(request, gated, ran, http_message, http_replies, good_head) -> Callable[[Any], Callable[[], bool]]:
    """`ask = good(server)`, then `ask()`: whether one request over a transport was answered."""
    over_http = partial(http_answer, http_message=http_message, http_replies=http_replies, good_head=good_head)
    return {
        "http": lambda server: partial(over_http, server.connection(30), parameters={"binary_data_output": True}),
        "http json": lambda server: partial(over_http, server.connection(30)),
        "grpc": lambda server: partial(grpc_answer, server.bound.grpc),
        "unix http": lambda server: partial(over_http, on_unix(server.bound.unix)),
        "unix grpc": lambda server: partial(grpc_answer, f"unix:{server.bound.unix}"),
        "lane": lambda server: partial(lane_answer, opened_frames(server.bound.unix, gated, ran)),
    }[request.param]


LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}


@pytest.fixture(params=[grpc_hog, unix_hog])
def hog(request) -> Any:
    return request.param


@pytest.fixture(params=[pytest.param({}, id="own"), pytest.param(LIBRARIES, id="libraries", marks=pytest.mark.slow)])
def started(request, serving, gated, tmp_path) -> Any:
    """A server on our transports, or on others'."""
    with serving(gated.engine, unix=str(tmp_path / "s"), **request.param) as server:
        yield server


def test_5_4_a_good_clients_request_is_next_after_the_one_under_way(started, gated, ran, good, hog) -> None:
    ask = good(started)
    with hog(started) as hogs_answers, ThreadPoolExecutor(1) as pool:
        until_pending(started, FLOOD - 1)
        answer = pool.submit(ask)
        until_pending(started, FLOOD)
        gated.release(FLOOD + 1)
        assert answer.result(30)
        assert hogs_answers() == FLOOD
    assert ran == [HOG, GOOD, *[HOG] * (FLOOD - 1)]


def test_pipelined_requests_of_one_http_connection_keep_nobody_waiting(
    serving, gated, ran, http_message, http_replies, good_head
) -> None:
    head = json.dumps(good_head()).encode()
    lengths = {"Inference-Header-Content-Length": str(len(head))}
    pipelined = http_message("POST", "/v2/models/gated/infer", head + row(HOG), lengths) * FLOOD
    with serving(gated.engine) as server, server.connection(30) as hog, ThreadPoolExecutor(1) as pool:
        hog.sendall(pipelined)
        assert gated.begun.acquire(timeout=10)
        answer = pool.submit(grpc_answer, server.bound.grpc)
        until_pending(server, 1)
        gated.release(FLOOD + 1)
        assert answer.result(30)
        assert [each.status for each in http_replies(hog, FLOOD)] == [200] * FLOOD
    assert ran[1] == GOOD


def test_5_4_a_full_queue_takes_a_good_clients_request_in_and_tells_the_hogs_newest_to_come_again(
    serving, gated, ran
) -> None:
    with serving(gated.engine, queue_size=8) as server, channel_to(server.bound.grpc) as channel:
        infer = channel.unary_unary(METHOD)
        calls = [infer.future(grpc_bytes(HOG))]
        assert gated.begun.acquire(timeout=10)
        for count in range(8):
            calls.append(infer.future(grpc_bytes(HOG)))
            until_pending(server, count + 1)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(grpc_answer, server.bound.grpc)
            refused = calls[8].exception(timeout=10)
            gated.release(9)
            assert answer.result(30)
        assert (refused.code(), "its share" in refused.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        assert "retry-after-ms" in dict(refused.trailing_metadata())
        assert [call.exception() is None for call in calls] == [True] * 8 + [False]
        assert (server.failures("gated"), server.counts("gated")) == ({"REJECTED": 1}, (9, 1))
    assert ran[:2] == [HOG, GOOD]


def test_calls_that_are_cancelled_before_they_run_never_do(serving, gated, ran) -> None:
    with serving(gated.engine) as server, channel_to(server.bound.grpc) as other, channel_to(
        server.bound.grpc
    ) as channel:
        first = other.unary_unary(METHOD).future(grpc_bytes(GOOD), timeout=30)
        assert gated.begun.acquire(timeout=10)
        infer = channel.unary_unary(METHOD)
        calls = [infer.future(grpc_bytes(HOG), timeout=GENEROUS_S) for _ in range(100)]
        until_pending(server, 100)
        for call in calls:
            call.cancel()
        until_pending(server, 0)
        gated.release(101)
        assert first.result(30)
        assert (server.failures("gated"), server.counts("gated")) == ({"CANCELED": 100}, (1, 100))
    assert ran == [GOOD]
