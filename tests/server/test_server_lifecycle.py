from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edge_runtime.errors import ConfigError
from edge_runtime.server.accelerators import Prepared
from edge_runtime.server.lifecycle import Stop, serve
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.warm_up import Measured

ROW = np.arange(4, dtype=np.float32).tobytes()
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def request_bytes(http_message, good_head) -> bytes:
    head = json.dumps(good_head()).encode()
    lengths = {"Inference-Header-Content-Length": str(len(head))}
    return http_message("POST", "/v2/models/gated/infer", head + ROW, lengths)


@pytest.fixture
def grpc_bytes() -> bytes:
    message = service_pb2.ModelInferRequest(model_name="gated", raw_input_contents=[ROW])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    return message.SerializeToString()


def begin_two(server, gated, stack, request_bytes, grpc_bytes) -> tuple[Any, Any]:
    """One request of each protocol: the first runs, the second waits."""
    connection = stack.enter_context(server.connection())
    connection.sendall(request_bytes)
    assert gated.begun.acquire(timeout=10)
    channel = stack.enter_context(grpc.insecure_channel(server.bound.grpc))
    call = channel.unary_unary(METHOD).future(grpc_bytes, timeout=20)
    end = time.monotonic() + 10
    while b'count{model="gated",version="3"} 1' not in server.ask("GET", "/metrics").body:
        assert time.monotonic() < end
    return connection, call


def not_ready(server) -> bool:
    return server.ask("GET", "/v2/health/ready").status == 503


def test_2_3_queue_a_drain_answers_what_is_in_flight_and_refuses_what_is_new(
    serving, gated, request_bytes, grpc_bytes, http_replies
) -> None:
    with serving(gated.engine) as server, ExitStack() as stack:
        connection, call = begin_two(server, gated, stack, request_bytes, grpc_bytes)
        server.signal()
        while not not_ready(server):
            pass
        (refused,) = server.exchange(request_bytes)
        assert (refused.status, refused.headers["retry-after"], list(refused.json)) == (503, "1", ["error"])
        assert server.ask("GET", "/v2/models/gated/ready").status == 503
        assert server.ask("GET", "/v2/health/live").status == 200
        channel = stack.enter_context(grpc.insecure_channel(server.bound.grpc))
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(grpc_bytes, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (server.failures("gated"), server.counts("gated")) == ({"REJECTED": 2}, (0, 2))
        gated.release(2)
        assert next(http_replies(connection, 1)).status == 200
        assert service_pb2.ModelInferResponse.FromString(call.result(10)).raw_output_contents[0] == ROW
        server.thread.join(10)
        assert server.outcome == [True]


def test_a_second_signal_hurries(serving, gated, request_bytes, grpc_bytes, http_replies) -> None:
    with serving(gated.engine, drain_s=60) as server, ExitStack() as stack:
        connection, call = begin_two(server, gated, stack, request_bytes, grpc_bytes)
        server.signal()
        server.signal()
        assert call.exception(10).code() is grpc.StatusCode.UNAVAILABLE
        gated.release()
        assert next(http_replies(connection, 1)).status == 200
        server.thread.join(10)
        assert server.outcome == [True]


def test_a_drain_ends_in_time_though_a_run_does_not_and_says_so(serving, gated, request_bytes) -> None:
    with serving(gated.engine, drain_s=0.1) as server, server.connection() as connection:
        connection.sendall(request_bytes)
        assert gated.begun.acquire(timeout=10)
        start = time.monotonic()
        server.signal()
        server.thread.join(10)
        assert server.outcome == [False]
        assert time.monotonic() - start < 5
        gated.release()


def test_a_body_that_is_still_on_its_way_does_not_hold_a_drain_up(serving, http_message) -> None:
    with serving("identity") as server, server.connection() as connection:
        headers = {"Content-Length": "100", "Expect": "100-continue"}
        connection.sendall(http_message("POST", "/v2/models/identity/infer", headers=headers))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        start = time.monotonic()
        server.signal()
        server.thread.join(10)
        assert server.outcome == [True]
        assert time.monotonic() - start < 5


def test_an_idle_server_with_open_connections_stops_at_once(serving, http_message, http_replies) -> None:
    with serving("identity") as server, ExitStack() as stack:
        for data in (b"", b"GET /v2 HT", http_message("GET", "/v2")):
            connection = stack.enter_context(server.connection())
            connection.sendall(data)
        assert next(http_replies(connection, 1)).status == 200
        channel = stack.enter_context(grpc.insecure_channel(server.bound.grpc))
        channel.subscribe(lambda _state: None)  # grpcio 1.70 reads only while it calls or watches
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)
        start = time.monotonic()
        server.signal()
        server.thread.join(10)
        assert time.monotonic() - start < 1


def attempt(engines: list, **settings: Any) -> bool:
    async def main() -> bool:
        stop = Stop(asyncio.Event(), asyncio.Event())
        stop.signalled()
        made = [Prepared(engine, Measured((), False)) for engine in engines]
        return await serve(made, ServerSettings(**settings), lambda bound: None, stop)

    return asyncio.run(main())


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_address_in_use_is_a_configuration_error(server, gated, protocol) -> None:
    addresses = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", protocol: getattr(server.bound, protocol)}
    with pytest.raises(ConfigError, match=f"--{protocol} HOST:PORT"):
        attempt([gated.engine], **addresses)
    assert server.ask("GET", "/v2/health/ready").status == 200


def test_both_protocols_at_one_address_are_a_configuration_error(server, gated, serving) -> None:
    with serving("identity") as other:
        free = other.bound.http
    with pytest.raises(ConfigError):
        attempt([gated.engine], http=free, grpc=free)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_address_that_others_reach_is_a_configuration_error(protocol) -> None:
    with pytest.raises(ConfigError, match="others reach it, which needs TLS"):
        attempt([], **{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", protocol: "0.0.0.0:0"})


def test_several_models_are_served_side_by_side(serving, gated, good_head) -> None:
    with serving("identity", "pair", gated.engine) as server:
        index = server.ask("POST", "/v2/repository/index", b'{"ready": true}').json
        assert [model["name"] for model in index] == ["identity", "pair", "gated"]
        assert server.infer("identity", good_head(), ROW).status == 200


def test_a_drain_waits_for_a_run_whose_client_went_away(serving, gated, http_message) -> None:
    as_json = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
    with serving(gated.engine) as server:
        with server.connection() as gone:
            gone.sendall(http_message("POST", "/v2/models/gated/infer", as_json))
            assert gated.begun.acquire(timeout=10)
        server.signal()
        server.thread.join(2.5)
        assert server.thread.is_alive()
        gated.release()
        server.thread.join(10)
        assert server.outcome == [True]
