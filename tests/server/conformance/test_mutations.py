"""Seeded rubbish, hostile names, and what is left of the server afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from fakes.http2_client import (
    DATA,
    END_STREAM,
    PING,
    RawClient,
    call,
    fields,
    frame,
    head,
    rst_stream,
    settings,
    window_update,
)
from fakes.http2_client import message as framed
from fakes.mutations import changed_bytes, changed_frames, changed_json, changed_message, changed_request
from tritonclient.grpc import service_pb2

from edge_runtime.server.models import ModelTable
from edge_runtime.server.routes import HttpRoutes
from edge_runtime.wire.messages import SERVICE, methods

ROW = np.arange(4, dtype=np.float32).tobytes()
PATH = "/v2/models/identity/infer"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
INSIDES = re.compile(
    r"Traceback|/home|/work|/root|site-packages|\.py\b|<class|object at|0x[0-9a-f]{6}|Error\b|internal"
)
AS_JSON: dict[str, Any] = {
    "id": "7",
    "parameters": {"priority": 1},
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
    "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
}
BINARY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}]}


def binary_request(text: bytes, tail: bytes, http_message: Any) -> bytes:
    headers = {"Inference-Header-Content-Length": str(len(text)), "Connection": "close"}
    return http_message("POST", PATH, text + tail, headers)


def answers_of(server: Any, data: bytes) -> list[Any]:
    """What came within 5 seconds, until the server closed the connection; each refusal is held to its form."""
    found = []
    with server.connection(5) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(data)
        for answer in server.replies(connection, 9):
            found.append(answer)
            if data.startswith(b"HEAD"):
                break
            if answer.status >= 400:
                check_refusal(answer.json["error"])
                assert list(answer.json) == ["error"]
    return found


def check_refusal(text: str) -> None:
    assert text.isprintable()
    assert len(text) < 500
    assert not INSIDES.search(text)


def is_right(server: Any, http_message: Any) -> bool:
    text = json.dumps({**BINARY, "parameters": {"binary_data_output": True}}).encode()
    return answers_of(server, binary_request(text, ROW, http_message))[0].body.endswith(ROW)


@pytest.mark.parametrize("seed", range(2))
def test_1_1_http_fuzz_of_bodies_is_refused_and_counted_one_by_one(hasty, http_message, logged, seed) -> None:
    rng = random.Random(seed)
    requests = [http_message("POST", PATH, changed_json(AS_JSON, rng), {"Connection": "close"}) for _ in range(75)]
    tails = [ROW * rng.choice((0, 1, 1, 2)) + bytes(rng.randrange(2)) for _ in range(75)]
    requests += [binary_request(changed_json(BINARY, rng), tail, http_message) for tail in tails]
    before = hasty.counts("identity")
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(answer.status for (answer,) in pool.map(partial(answers_of, hasty), requests))
    after = hasty.counts("identity")
    assert set(statuses) <= {200, 400, 413, 422, 503}
    assert (after[0] - before[0], after[1] - before[1]) == (statuses[200], 150 - statuses[200])
    assert is_right(hasty, http_message)
    assert not logged()


async def patterns() -> list[tuple[str, str]]:
    return [(method, pattern.pattern) for method, pattern, _ in HttpRoutes(ModelTable([]))._routes]


ENDLESS = (("HEAD", ""), ("GET", "live/events"))  # answers without a body, and without an end


def routes() -> list[tuple[str, str]]:
    """A method and a target for each of the router's patterns."""
    found = asyncio.run(patterns())
    examples = (
        (r"\(\?P<model>[^)]*\)", "identity"),
        (r"\(\?:/versions/.*?\)\)\?", "/versions/3"),
        (r"\(\?P<region>[^)]*\)", "r"),
        (r"\(\?:(v2/systemsharedmemory)\|[^)]*\)", r"\1"),
        (r"\(\?:([a-z]+)\|.*", r"\1"),
        (r"/\?$|\\|\(\?:/\.\*\)\?", ""),
    )
    for pattern, example in examples:
        found = [(method, re.sub(pattern, example, target)) for method, target in found]
    return [(method, "/" + target) for method, target in found if (method, target) not in ENDLESS]


def test_1_1_http_fuzz_knows_all_routes() -> None:
    targets = {target for _, target in routes()}
    assert {"/v2/models/identity/versions/3/infer", "/v2/systemsharedmemory/region/r/register", "/metrics"} <= targets
    assert all(re.fullmatch(r"[a-z0-9/]+", target) for target in targets)


@pytest.mark.parametrize("seed", range(2))
def test_1_1_http_fuzz_of_whole_requests_harms_nothing(hasty, http_message, caplog, seed) -> None:
    rng, known = random.Random(seed), routes()
    requests = []
    for _ in range(150):
        method, target = rng.choice(known)
        content = {"key": "/none", "offset": 0, "byte_size": 64} if "region" in target else AS_JSON
        requests.append(changed_request(method, target, changed_json(content, rng), rng))
    with ThreadPoolExecutor(16) as pool:
        statuses = {answer.status for each in pool.map(partial(answers_of, hasty), requests) for answer in each}
    assert statuses <= {100, 200, 400, 403, 404, 405, 408, 413, 415, 422, 429, 501, 503}
    assert {200, 400, 404} <= statuses
    assert is_right(hasty, http_message)
    lines = [each.getMessage() for each in caplog.records if each.name.startswith(("edge_runtime", "asyncio"))]
    assert not [line for line in lines if "PollerCompletionQueue" not in line]


def good_message() -> Any:
    message = service_pb2.ModelInferRequest(model_name="identity", id="7", raw_input_contents=[ROW])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    message.outputs.add(name="y").parameters["binary_data"].bool_param = True
    return message


def called(channel: Any, method: str, data: bytes) -> str:
    try:
        channel.unary_unary(f"/{SERVICE}/{method}")(data, timeout=10)
    except grpc.RpcError as error:
        check_refusal(error.details())
        return error.code().name
    return "OK"


def test_1_1_grpc_fuzz_of_fields_is_refused_and_counted_one_by_one(hasty, http_message, logged) -> None:
    rng, codes, before = random.Random(0), Counter(), hasty.counts("identity")
    with grpc.insecure_channel(hasty.bound.grpc) as channel:
        while sum(codes.values()) < 200:
            message = changed_message(good_message(), rng)
            if message.model_name == "identity" and message.model_version in ("", "3"):
                codes[called(channel, "ModelInfer", message.SerializeToString())] += 1
    after = hasty.counts("identity")
    assert set(codes) <= {"OK", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "NOT_FOUND"}
    assert (after[0] - before[0], after[1] - before[1]) == (codes["OK"], 200 - codes["OK"])
    assert is_right(hasty, http_message)
    assert not logged()


def test_1_1_grpc_fuzz_of_bytes_and_all_methods_is_no_failure_of_ours(hasty, http_message, logged) -> None:
    rng, codes, known = random.Random(0), set(), [name for name, _, _ in methods(SERVICE)]
    requests = {name: request for name, request, _ in methods(SERVICE)}
    with grpc.insecure_channel(hasty.bound.grpc) as channel:
        for _ in range(200):
            data = changed_bytes(changed_message(good_message(), rng).SerializeToString(), rng)
            codes.add(called(channel, "ModelInfer", data))
            name = rng.choice(known)
            codes.add(called(channel, name, changed_message(requests[name](), rng).SerializeToString()))
    refusals = {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNIMPLEMENTED"}
    assert codes <= {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", *refusals}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= codes
    assert is_right(hasty, http_message)
    assert not logged()


def infer_frames(data: bytes) -> list[bytes]:
    path = f"/{SERVICE}/ModelInfer"
    half = len(data) // 2
    return [
        settings({1: 4096, 4: 100_000, 5: 20_000}),
        call(1, data, path),
        head(3, fields(path, grpc_encoding="gzip", grpc_timeout="1S")),
        frame(DATA, END_STREAM, 3, framed(gzip.compress(data), flag=1)),
        head(5, fields(path)),
        frame(DATA, 0, 5, framed(data)[:half]),
        window_update(5, 1000),
        frame(PING, payload=b"pingping"),
        frame(DATA, END_STREAM, 5, framed(data)[half:]),
        call(7, data, path) + rst_stream(7),
        frame(99, 7, 9, b"unknown"),
    ]


@pytest.mark.parametrize("transport", ["own", "own-unix"])
def test_1_1_grpc_fuzz_of_frames_harms_nothing(carried, http_message, logged, transport) -> None:
    rng, frames = random.Random(0), infer_frames(good_message().SerializeToString())
    with carried(transport, "identity", body_timeout_s=0.2, idle_timeout_s=0.2) as server:
        host, port = (server.bound.http if server.is_over_unix else server.bound.grpc).rsplit(":", 1)
        for _ in range(200):
            with RawClient((host, int(port))) as client:
                client.send(changed_frames(frames, rng))
                client.finished()
        assert is_right(server, http_message)
    assert not logged()


def test_1_1_memory_growth_two_thousand_refusals_leave_nothing_behind(
    server, http_message, watch_rss, no_descriptor_is_left
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
    lines = [record.getMessage() for record in caplog.records if record.name == "edge_runtime.server.http1.exchange"]
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
