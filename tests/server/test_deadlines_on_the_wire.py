from __future__ import annotations

import json
import time
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from edge_runtime.server import planner

ROW = np.arange(4, dtype=np.float32).tobytes()
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def head(good_head) -> Any:
    def make(**parameters: Any) -> dict[str, Any]:
        return {**good_head(), "parameters": {"binary_data_output": True, **parameters}}

    return make


@pytest.fixture
def busy(serving, gated, http_message, http_replies, head):
    """A server whose only slot runs something until `gated.release`; queue of 4, default deadline as asked."""

    def start(**settings: Any) -> Any:
        return serving(gated.engine, queue_size=4, **settings)

    return start


def message(**parameters: float) -> bytes:
    made = service_pb2.ModelInferRequest(model_name="gated", raw_input_contents=[ROW])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    for name, value in parameters.items():
        made.parameters[name].double_param = value
    return made.SerializeToString()


def occupy(server: Any, gated: Any, head: Any, http_message: Any) -> Any:
    connection = server.connection()
    text = json.dumps(head()).encode()
    lengths = {"Inference-Header-Content-Length": str(len(text))}
    connection.sendall(http_message("POST", "/v2/models/gated/infer", text + ROW, lengths))
    assert gated.begun.acquire(timeout=10)
    return connection


@pytest.mark.parametrize(
    "parameters", [{"deadline_ms": 50}, {"timeout": 50_000}, {"deadline_ms": 9000, "timeout": 50_000}]
)
def test_2_3_queue_a_request_that_waits_too_long_is_told_so_when_its_deadline_comes(
    busy, gated, head, http_message, parameters
) -> None:
    with busy() as server, occupy(server, gated, head, http_message):
        start = time.monotonic()
        answer = server.infer("gated", head(**parameters), ROW)
        waited_s = time.monotonic() - start
        gated.release()
        assert (answer.status, list(answer.json), answer.headers["edge-runtime-error"]) == (
            503,
            ["error"],
            "DeadlineExpiredError",
        )
        assert int(answer.headers["retry-after"]) >= 1
        assert 0.04 < waited_s < 2
    assert gated.runs == 1


def test_the_models_own_holds_for_requests_that_bring_none(busy, gated, head, http_message) -> None:
    with busy(serving={"deadline_ms": 300}) as server, occupy(server, gated, head, http_message):
        answer = server.infer("gated", head(), ROW)
        gated.release()
        assert (answer.status, answer.headers["edge-runtime-error"]) == (503, "DeadlineExpiredError")


def test_the_models_own_holds_for_requests_that_bring_a_longer_one(busy, gated, head, http_message) -> None:
    with busy(serving={"deadline_ms": 300}) as server, occupy(server, gated, head, http_message):
        answer = server.infer("gated", head(deadline_ms=9000), ROW)
        gated.release()
        assert (answer.status, answer.headers["edge-runtime-error"]) == (503, "DeadlineExpiredError")


def test_2_3_queue_grpc_tells_a_missed_deadline_by_its_status(busy, gated, head, http_message) -> None:
    with busy() as server, occupy(server, gated, head, http_message), grpc.insecure_channel(
        server.bound.grpc
    ) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(message(deadline_ms=50.0), timeout=10)
        gated.release()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        trailers = dict(caught.value.trailing_metadata())
        assert trailers["edge-runtime-error"] == "DeadlineExpiredError"
        assert int(trailers["retry-after-ms"]) > 0


def test_the_grpc_deadline_is_one_too(busy, gated, head, http_message) -> None:
    with busy() as server, occupy(server, gated, head, http_message), grpc.insecure_channel(
        server.bound.grpc
    ) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(message(deadline_ms=9000.0), timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gated.release(2)
        assert server.infer("gated", head(), ROW).status == 200
    assert gated.runs == 2


RUN_MS, LACKS_A_LITTLE_MS = 500, 930  # two runs of it take a little longer than that


@pytest.fixture
def hesitant(busy, monkeypatch):
    """A server whose requests may wait for a promise for 200 ms."""
    monkeypatch.setattr(planner, "PATIENCE_NS", 200_000_000)
    return lambda: busy(gated_ns=RUN_MS * 1_000_000)


def test_one_that_waited_for_a_promise_in_vain_is_refused_and_its_connection_lives_on(
    hesitant, gated, head, http_message, http_replies
) -> None:
    with hesitant() as server, occupy(server, gated, head, http_message) as first, server.connection() as connection:
        text = json.dumps(head(deadline_ms=LACKS_A_LITTLE_MS)).encode()
        lengths = {"Inference-Header-Content-Length": str(len(text))}
        start = time.monotonic()
        connection.sendall(http_message("POST", "/v2/models/gated/infer", text + ROW, lengths))
        (refused,) = http_replies(connection, 1)
        assert time.monotonic() - start > 0.15
        assert (refused.status, refused.headers["edge-runtime-error"]) == (503, "DeadlineRefusedError")
        assert refused.headers["retry-after"] == "1"
        text = json.dumps(head()).encode()
        lengths = {"Inference-Header-Content-Length": str(len(text))}
        connection.sendall(http_message("POST", "/v2/models/gated/infer", text + ROW, lengths))
        gated.release(2)
        assert [next(http_replies(each, 1)).status for each in (first, connection)] == [200, 200]
        assert server.failures("gated") == {"REJECTED": 1}


def test_grpc_tells_of_a_promise_that_was_waited_for_in_vain(hesitant, gated, head, http_message) -> None:
    with hesitant() as server, occupy(server, gated, head, http_message), grpc.insecure_channel(
        server.bound.grpc
    ) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(message(deadline_ms=float(LACKS_A_LITTLE_MS)), timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(caught.value.trailing_metadata())["edge-runtime-error"] == "DeadlineRefusedError"
        gated.release(1)


def test_one_that_waits_for_a_promise_runs_when_the_one_before_it_ends_early(
    hesitant, gated, head, http_message, http_replies
) -> None:
    with hesitant() as server, occupy(server, gated, head, http_message), server.connection() as connection:
        text = json.dumps(head(deadline_ms=LACKS_A_LITTLE_MS)).encode()
        lengths = {"Inference-Header-Content-Length": str(len(text))}
        connection.sendall(http_message("POST", "/v2/models/gated/infer", text + ROW, lengths))
        time.sleep(0.02)
        gated.release(2)
        assert next(http_replies(connection, 1)).status == 200
        assert server.failures("gated") == {}


def test_a_deadline_before_the_first_possible_answer_is_refused_at_once(server, head) -> None:
    answer = server.infer("identity", head(deadline_ms=0.000001), ROW)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["edge-runtime-error"] in ("DeadlineExpiredError", "DeadlineRefusedError")


def test_2_1_schedule_policy_priority_decides_who_is_next(busy, gated, head, http_message, http_replies) -> None:
    with busy() as server, occupy(server, gated, head, http_message) as first:
        order: list[int] = []
        connections = []
        for priority in (0, 2, 1):
            connection = server.connection()
            text = json.dumps({**head(priority=priority), "id": str(priority)}).encode()
            lengths = {"Inference-Header-Content-Length": str(len(text))}
            connection.sendall(http_message("POST", "/v2/models/gated/infer", text + ROW, lengths))
            connections.append((priority, connection))
            end = time.monotonic() + 10
            while (
                b'pending_request_count{model="gated",version="3"} %d' % len(connections)
                not in server.ask("GET", "/metrics").body
            ):
                assert time.monotonic() < end
        gated.release()
        assert next(http_replies(first, 1)).status == 200
        waiting = dict(connections)
        for expected in (1, 2, 0):
            assert gated.begun.acquire(timeout=10)
            gated.release()
            assert next(http_replies(waiting[expected], 1)).status == 200
            order.append(expected)
        for connection in waiting.values():
            connection.close()
    assert order == [1, 2, 0]


def test_a_declared_stream_is_served(server, head) -> None:
    for _ in range(3):
        answer = server.infer("identity", head(stream="camera", period_ms=50, deadline_ms=900), ROW)
        assert answer.status == 200


def test_a_stream_that_can_not_be_kept_is_refused(serving, gated, head) -> None:
    gated.release(20)
    with serving(gated.engine) as server:
        for _ in range(10):
            assert server.infer("gated", head(), ROW).status == 200
        answer = server.infer("gated", head(stream="camera", period_ms=0.001, deadline_ms=0.002), ROW)
        assert answer.status == 503
