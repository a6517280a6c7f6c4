"""Seeded rubbish, hostile names, and what is left of the server afterwards."""

from __future__ import annotations

import json
import logging
import random
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

ROW = np.arange(4, dtype=np.float32).tobytes()
PATH = "/v2/models/identity/infer"
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four small changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        span = rng.choice((1, 1, 1, 4, 30))
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + span] = rng.getrandbits(8 * span).to_bytes(span, "little")
        elif kind == 1:
            del changed[at : at + span]
        elif kind == 2:
            changed[at:at] = rng.choice((b"\r\n", b"\0", b"-1", b"9" * 20, b'"', b"[", b"\xff", b"{}", b", "))
        elif kind == 3:
            changed[at:at] = changed[at : at + span]
        else:
            changed[at : at + 1] = bytes([changed[at] ^ (1 << rng.randrange(8))]) if at < len(changed) else b""
    return bytes(changed)


@pytest.fixture(scope="module")
def hasty(serving):
    """A server of short patience, so that half a request ends soon."""
    with serving("identity", "pair", body_timeout_s=0.2, idle_timeout_s=0.2) as started:
        yield started


def test_1_1_http_fuzz_no_mutation_of_an_http_request_is_our_failure(
    hasty, http_message, http_replies, good_head, logged
) -> None:
    head = json.dumps(good_head()).encode()
    good = http_message("POST", PATH, head + ROW, {"Inference-Header-Content-Length": str(len(head))})
    as_json = http_message("POST", PATH, b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}')
    rng = random.Random(0)
    statuses = []
    for _ in range(300):
        with hasty.connection() as connection:
            connection.sendall(mutated(rng.choice((good, as_json)), rng))
            answers = list(http_replies(connection, 1))
        statuses += [answer.status for answer in answers]
        assert all(answer.status in (200, 100) or "error" in answer.json for answer in answers if answer.body)
        assert hasty.exchange(good)[0].status == 200
    assert {status // 100 for status in statuses} <= {1, 2, 4}
    assert len(set(statuses)) >= 3
    assert not logged()


def good_message() -> Any:
    message = service_pb2.ModelInferRequest(model_name="identity", id="7", raw_input_contents=[ROW])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    message.outputs.add(name="y").parameters["binary_data"].bool_param = True
    return message


def test_1_1_grpc_fuzz_no_mutation_of_a_grpc_request_is_our_failure(hasty, logged) -> None:
    good, rng, codes = good_message().SerializeToString(), random.Random(0), []
    with grpc.insecure_channel(hasty.bound.grpc) as channel:
        infer = channel.unary_unary(METHOD)
        for _ in range(200):
            try:
                infer(mutated(good, rng), timeout=10)
            except grpc.RpcError as error:
                codes.append(error.code().name)
            assert infer(good, timeout=10)
    assert set(codes) == {"INVALID_ARGUMENT", "NOT_FOUND"}
    assert not logged()


def test_1_1_memory_growth_two_thousand_refusals_leave_no_memory_behind(
    server, http_message, http_replies, watch_rss
) -> None:
    requests = [
        http_message("POST", PATH, b"{"),
        http_message("POST", PATH, json.dumps({"inputs": [{"name": "x" * 5000}]}).encode()),
        http_message("POST", "/v2/models/none/infer", b"x" * 2000),
        http_message("GET", "/none"),
        b"nonsense\r\n\r\n",
    ]

    def refused(count: int) -> None:
        with grpc.insecure_channel(server.bound.grpc) as channel:
            infer = channel.unary_unary(METHOD)
            for index in range(count):
                if index % 6 < 5:
                    assert server.exchange(requests[index % 6])[0].status in (400, 404)
                    continue
                with pytest.raises(grpc.RpcError):
                    infer(b"\xff" * 1000, timeout=10)

    refused(200)
    grown = watch_rss()
    refused(2000)
    assert grown() < 8 << 20


HOSTILE = ["a\r\nGET /x", "\x1b[31mred\x1b[0m", "\x00", "a\u2028b\u202ec", "\u00e9" * 50, "n" * (1 << 20), "%s%n{0}"]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:10]))
def test_1_1_nullchar_string_hostile_names_come_back_escaped_and_short(server, good_head, name) -> None:
    answer = server.infer("identity", good_head(name=name), ROW)
    text = answer.json["error"]
    assert (answer.status, text.isprintable()) == (400, True)
    assert len(text) < 300


def test_1_1_logging_a_log_line_about_a_hostile_request_is_one_short_line(serving, monkeypatch, caplog) -> None:
    caplog.set_level(logging.DEBUG, "edge_runtime")
    with serving("identity") as server:
        monkeypatch.setattr("edge_runtime.server.models.ModelTable.find", lambda *_: 1 / 0)
        for name in ("a%0d%0aERROR%20x", "%1b[31m", "n" * 7000, "%e2%80%a8"):
            assert server.ask("GET", f"/v2/models/{name}").json == {"error": "internal error"}
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("edge_runtime")]
    assert len(lines) == 4
    assert all(line.isascii() and line.isprintable() and len(line) < 300 for line in lines)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_2_3_body_limit_a_grpc_message_over_the_limit_is_refused(server, compression) -> None:
    message = good_message()
    message.raw_input_contents[0] = bytes(65 << 20)
    payload = message.SerializeToString()
    with grpc.insecure_channel(server.bound.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(payload, timeout=10, compression=compression)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary(METHOD)(good_message().SerializeToString(), timeout=10)
