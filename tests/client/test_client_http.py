from __future__ import annotations

import json

import numpy as np
import pytest
from fakes.blocking_client import BlockingAsyncClient

from edge_runtime.client import Client
from edge_runtime.errors import InvalidRequestError, RemoteError, ServerUnavailableError

FEEDS = {"x": np.array([[1, 2]], np.float32)}


@pytest.fixture(params=[Client, BlockingAsyncClient], ids=["blocking", "asyncio"], autouse=True)
def client_class(request, monkeypatch):
    """Runs every test of this file with both clients."""
    monkeypatch.setitem(globals(), "Client", request.param)


def binary_row(name="y", datatype="FP32", shape=(1,), size=4):
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}


@pytest.fixture
def infer(scripted, http_answer):
    """`infer(head, binary, ...)`: what the client makes of this made-up answer to one inference."""

    def run(head, binary=b"", head_length=None, status=200, outputs=None):
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        length = len(text) if head_length is None else head_length
        server = scripted([[http_answer(text + binary, status, length)]])
        with Client(server.url, timeout_s=10) as client:
            return client.infer("m", FEEDS, outputs)

    return run


def test_a_request_is_a_json_head_and_the_tensors_after_it(scripted, http_answer):
    server = scripted([[http_answer(b'{"outputs": []}')]])
    feeds = {"x": np.array([[1, 2]], ">f4"), "é": np.array(True)}
    with Client(server.url) as client:
        client.infer("a/b c", feeds, version="3", request_id="q")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    length = int(next(line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"Inference-Header")))
    assert head.startswith(b"POST /v2/models/a%2Fb%20c/versions/3/infer HTTP/1.1\r\n")
    assert body[length:] == np.array([1, 2], "<f4").tobytes() + b"\1"
    assert json.loads(body[:length]) == {
        "id": "q",
        "inputs": [
            {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            {"name": "é", "shape": [], "datatype": "BOOL", "parameters": {"binary_data_size": 1}},
        ],
        "parameters": {"binary_data_output": True},
    }


def test_a_large_tensor_arrives_whole(scripted, http_answer):
    server = scripted([[http_answer(b'{"outputs": []}')]])
    value = np.random.default_rng(0).standard_normal((1024, 512)).astype(np.float32)
    with Client(server.url) as client:
        client.infer("m", {"x": value.T})
    assert server.requests[0].endswith(np.ascontiguousarray(value.T).tobytes())


def test_binary_and_json_outputs_are_read_from_one_answer(infer):
    head = {
        "outputs": [binary_row("a"), {"name": "j", "datatype": "INT8", "shape": [2], "data": [1, 2]}, binary_row("b")]
    }
    result = infer(head, np.array([1.5, 2.5], "<f4").tobytes())
    assert {name: value.tolist() for name, value in result.items()} == {"a": [1.5], "j": [1, 2], "b": [2.5]}


def test_outputs_are_asked_for_by_name(scripted, http_answer):
    server = scripted(
        [
            [
                http_answer(
                    json.dumps({"outputs": [{"name": "y", "datatype": "INT8", "shape": [1], "data": [1]}]}).encode()
                )
            ]
        ]
    )
    with Client(server.url) as client:
        assert client.infer("m", FEEDS, ["y"])["y"] == 1
    assert b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]' in server.requests[0]


@pytest.mark.parametrize(
    ("head", "binary", "length"),
    [
        (b"", b"", None),
        (b"nope", b"", None),
        ({}, b"", None),
        ({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]}, b"", None),
        ({"outputs": [binary_row()]}, b"", None),
        ({"outputs": [binary_row()]}, bytes(3), None),
        ({"outputs": [binary_row()]}, bytes(5), None),
        ({"outputs": [binary_row(size=8)]}, bytes(8), None),
        ({"outputs": [binary_row(size=-4)]}, bytes(4), None),
        ({"outputs": [binary_row(size=10**30)]}, bytes(4), None),
        ({"outputs": [binary_row(size="4")]}, bytes(4), None),
        ({"outputs": [binary_row(size=True)]}, bytes(4), None),
        ({"outputs": [binary_row(datatype="STRING")]}, bytes(4), None),
        ({"outputs": [binary_row(shape=[-1])]}, bytes(4), None),
        ({"outputs": [binary_row(shape=[2**62, 2**62])]}, bytes(4), None),
        ({"outputs": [binary_row(), binary_row()]}, bytes(8), None),
        ({"outputs": []}, b"", 10**6),
        ({"outputs": []}, b"", "-1"),
        ({"outputs": []}, b"", "1e3"),
        ({"outputs": []}, b"", "9" * 5000),
        ({"outputs": []}, b"", 3),
        ({"outputs": []}, b"x", None),
    ],
)
def test_a_broken_answer_is_a_remote_error(infer, head, binary, length):
    with pytest.raises(RemoteError, match="broken answer") as caught:
        infer(head, binary, length)
    assert caught.value.status == 200


def test_an_answer_without_a_head_length_is_all_json(scripted, http_answer):
    server = scripted([[http_answer(json.dumps({"outputs": [binary_row()]}).encode() + bytes(4))]])
    with Client(server.url) as client, pytest.raises(RemoteError, match="not JSON"):
        client.infer("m", FEEDS)


def test_an_output_that_was_asked_for_and_is_missing_is_a_broken_answer(infer):
    with pytest.raises(RemoteError, match="output 'z' was asked for and is missing"):
        infer({"outputs": [binary_row()]}, bytes(4), outputs=["y", "z"])


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, {"error": "wrong\nname"}, "HTTP status 400: wrong name"),
        (404, {"error": 3}, 'HTTP status 404: {"error": 3}'),
        (500, b"<html>oops", "HTTP status 500: <html>oops"),
        (413, b"", "HTTP status 413: no text"),
        (302, b"", "HTTP status 302"),
        (204, b"", "HTTP status 204"),
        (400, b"\xff", "HTTP status 400: \ufffd"),
    ],
)
def test_a_refusal_has_the_servers_status_and_text(infer, status, body, text):
    with pytest.raises(RemoteError, match="POST /v2/models/m/infer") as caught:
        infer(body, status=status)
    assert caught.value.status == status
    assert text in str(caught.value)


def test_503_is_unavailable_with_the_servers_text(infer):
    with pytest.raises(ServerUnavailableError, match="queue full"):
        infer({"error": "queue full"}, status=503)


def test_what_cannot_be_sent_is_refused_without_a_server(unused_port):
    with Client(f"http://127.0.0.1:{unused_port}") as client, pytest.raises(InvalidRequestError):
        client.infer("m", {"x": [1.0]})


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"", True),
        (200, b'{"live": true, "ready": true}', True),
        (200, b'{"live": false, "ready": false}', False),
        (400, b"", False),
        (404, b"", False),
        (503, b'{"error": "draining"}', False),
    ],
)
def test_health_is_what_the_server_says(scripted, http_answer, status, body, expected):
    server = scripted([[http_answer(body, status)] * 3])
    with Client(server.url) as client:
        assert [client.is_live(), client.is_ready(), client.is_ready("m")] == [expected] * 3
    paths = [request.split(b" ")[1] for request in server.requests]
    assert paths == [b"/v2/health/live", b"/v2/health/ready", b"/v2/models/m/ready"]


def test_health_of_a_server_that_refuses_to_say_is_an_error(scripted, http_answer):
    with Client(scripted([[http_answer(b"", 401)]]).url) as client, pytest.raises(RemoteError, match="401"):
        client.is_ready()


def test_an_absent_server_is_neither_live_nor_ready(unused_port):
    with Client(f"http://127.0.0.1:{unused_port}") as client:
        assert (client.is_live(), client.is_ready(), client.is_ready("m")) == (False, False, False)


def test_metadata_is_the_servers_json(scripted, http_answer):
    about = {"name": "s", "version": "1", "extensions": []}
    model = {"name": "m", "inputs": [], "outputs": []}
    server = scripted([[http_answer(json.dumps(content).encode()) for content in (about, model)]])
    with Client(server.url) as client:
        assert (client.metadata(), client.metadata("m")) == (about, model)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"name": "m"}', b'{"inputs": [], "outputs": [3]}'])
def test_broken_metadata_of_a_model_is_a_remote_error(scripted, http_answer, body):
    with Client(scripted([[http_answer(body)]]).url) as client, pytest.raises(RemoteError, match="broken answer"):
        client.metadata("m")
