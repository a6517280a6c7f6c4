"""Queues that are full, and clients that don't wait for their answers."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any, Callable

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

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


def wait_until(is_so: Callable[[], bool]) -> None:
    """Asks again and again; what it asks is the server, so it gives way to it."""
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end


def pending(server: Any) -> int:
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return int(next(line for line in lines if line.startswith("nv_inference_pending_request_count{")).split()[-1])


def test_2_3_queue_a_full_queue_refuses_at_once_and_says_when_to_come_again(
    serving, gated, request_bytes, grpc_bytes, http_replies
) -> None:
    with serving(gated.engine, queue_size=1) as server, ExitStack() as stack:
        first, second = (stack.enter_context(server.connection()) for _ in range(2))
        first.sendall(request_bytes)
        assert gated.begun.acquire(timeout=10)
        second.sendall(request_bytes)
        wait_until(lambda: pending(server) == 1)
        (refused,) = server.exchange(request_bytes)
        assert (refused.status, refused.headers["retry-after"], list(refused.json)) == (503, "1", ["error"])
        channel = stack.enter_context(grpc.insecure_channel(server.bound.grpc))
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(grpc_bytes, timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        gated.release(2)
        assert [next(http_replies(each, 1)).status for each in (first, second)] == [200, 200]
        assert (server.failures("gated"), server.counts("gated")) == ({"REJECTED": 2}, (2, 2))


def test_2_3_client_gone_a_request_whose_http_client_went_away_is_not_run(
    serving, gated, request_bytes, http_replies
) -> None:
    with serving(gated.engine) as server, server.connection() as first:
        first.sendall(request_bytes)
        assert gated.begun.acquire(timeout=10)
        with server.connection() as gone:
            gone.sendall(request_bytes)
            wait_until(lambda: pending(server) == 1)
        wait_until(lambda: server.failures("gated") == {"CANCELED": 1})
        gated.release()
        assert next(http_replies(first, 1)).status == 200
        assert (gated.runs, pending(server), server.counts("gated")) == (1, 0, (1, 1))


@pytest.mark.parametrize("give_up", ["cancel", "deadline"])
def test_2_3_client_gone_a_request_whose_grpc_client_went_away_is_not_run(
    serving, gated, request_bytes, grpc_bytes, http_replies, give_up
) -> None:
    with serving(gated.engine) as server, server.connection() as first, grpc.insecure_channel(
        server.bound.grpc
    ) as channel:
        first.sendall(request_bytes)
        assert gated.begun.acquire(timeout=10)
        call = channel.unary_unary(METHOD).future(grpc_bytes, timeout=0.5 if give_up == "deadline" else 10)
        wait_until(lambda: pending(server) == 1)
        if give_up == "cancel":
            call.cancel()
        expected = ({"CANCELED": 1}, {"REJECTED": 1}) if give_up == "deadline" else ({"CANCELED": 1},)
        wait_until(lambda: server.failures("gated") in expected)
        gated.release()
        assert next(http_replies(first, 1)).status == 200
        assert (gated.runs, pending(server)) == (1, 0)


def test_2_3_client_gone_a_client_that_goes_away_while_its_request_runs_harms_nobody(
    serving, gated, request_bytes
) -> None:
    with serving(gated.engine) as server:
        with server.connection() as gone:
            gone.sendall(request_bytes)
            assert gated.begun.acquire(timeout=10)
        gated.release(2)
        assert server.exchange(request_bytes)[0].status == 200
        assert server.counts("gated") == (2, 0)


def test_1_2_cancelled_a_storm_of_cancelled_calls_harms_nobody(serving, gated, grpc_bytes) -> None:
    with serving(gated.engine) as server, grpc.insecure_channel(server.bound.grpc) as channel:
        infer = channel.unary_unary(METHOD)
        for _ in range(3):
            calls = [infer.future(grpc_bytes, timeout=10) for _ in range(100)]
            for call in calls:
                call.cancel()
        gated.release(301)
        assert infer(grpc_bytes, timeout=10)
        wait_until(lambda: pending(server) == 0)
        succeeded, failed = server.counts("gated")
        failures = server.failures("gated")
        assert (failures.keys() <= {"CANCELED", "REJECTED"}, sum(failures.values())) == (True, failed)
        assert succeeded == gated.runs
