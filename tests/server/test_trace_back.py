"""A request's `traceparent` in its answer: on each transport, whatever the answer is, and nothing else of a client."""

from __future__ import annotations

import json
from typing import Any, Iterator

import grpc
import numpy as np
import pytest

from edge_runtime.server.models import ModelTable
from edge_runtime.wire.messages import SERVICE, message
from edge_runtime.wire.tokens import token_line

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSOUND = ["nonsense", TRACE.upper(), f"{TRACE}-more", f"{TRACE}, {TRACE}", f"00-{'0' * 32}{TRACE[35:]}", ""]
INFER, STREAM = f"/{SERVICE}/ModelInfer", f"/{SERVICE}/ModelStreamInfer"
TRANSPORTS = [
    pytest.param({}, id="own"),
    pytest.param({"http_transport": "aiohttp", "grpc_transport": "grpcio"}, id="libraries"),
]


@pytest.fixture(scope="module", params=TRANSPORTS)
def traced(request: pytest.FixtureRequest, serving: Any) -> Iterator[Any]:
    with serving("identity", "echo", **request.param) as started:
        yield started


def binary() -> dict[str, Any]:
    item = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    return {"inputs": [item], "parameters": {"binary_data_output": True}}


def request_of(name: str = "identity", rows: int = 1, request_id: str = "") -> bytes:
    request = message("inference.ModelInferRequest")(model_name=name, id=request_id)
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
    request.raw_input_contents.append(np.zeros(4 * rows, np.float32).tobytes())
    return request.SerializeToString()


def trailing(address: str, path: str, request: bytes, *metadata: tuple[str, str]) -> tuple[str, list[str]]:
    """Status and the traceparents in the trailing metadata of a unary call."""
    with grpc.insecure_channel(address) as channel:
        try:
            _, ended = channel.unary_unary(path).with_call(request, metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            ended = error
        assert "traceparent" not in dict(ended.initial_metadata() or ())
        return ended.code().name, [value for name, value in ended.trailing_metadata() if name == "traceparent"]


HTTP = {
    "a plain answer": ("GET", "/v2", b"", {}, 200),
    "a page": ("GET", "/", b"", {}, 200),
    "no body": ("HEAD", "/", b"", {}, 200),
    "an answer that takes a while": ("GET", "/live", b"", {}, 200),
    "an unknown model": ("GET", "/v2/models/none", b"", {}, 404),
    "a wrong method": ("POST", "/v2", b"", {}, 405),
    "an inference of JSON": (
        "POST",
        "/v2/models/identity/infer",
        json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode(),
        {},
        200,
    ),
    "an inference without sense": ("POST", "/v2/models/identity/infer", b"{", {}, 400),
    "a body that isn't read": ("POST", "/v2/models/identity/infer", b"x", {"Content-Encoding": "br"}, 415),
    "what only administrators may": ("POST", "/v2/repository/models/x/load", b"", {"Origin": "http://x"}, 403),
}


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), HTTP.values(), ids=HTTP)
def test_every_http_answer_has_the_trace(traced, method, path, body, headers, status) -> None:
    reply = traced.ask(method, path, body, {"Traceparent": TRACE, **headers})
    assert (reply.status, reply.headers.get("traceparent")) == (status, TRACE)


def test_a_refusal_before_the_body_has_the_trace(traced) -> None:
    head = f"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\ntraceparent: {TRACE}\r\n"
    reply = traced.exchange(f"{head}Content-Length: 9000000000\r\n\r\n".encode())[0]
    assert (reply.status, reply.headers["traceparent"]) == (413, TRACE)


@pytest.mark.parametrize("line", ["BREW /v2 HTTP/1.1", "GET /v2 HTTP/1.1\r\nbroken"])
def test_what_is_no_request_has_an_answer_without_a_trace_or_with_its_own(traced, line: str) -> None:
    reply = traced.exchange(f"{line}\r\nHost: x\r\ntraceparent: {TRACE}\r\n\r\n".encode())[0]
    assert reply.status in (400, 405)
    assert reply.headers.get("traceparent") in (None, TRACE)


def test_a_failure_of_ours_over_http_has_the_trace_and_is_logged_with_it(traced, caplog, monkeypatch) -> None:
    def index(self: ModelTable, is_ready_only: bool) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ModelTable, "index", index)
    reply = traced.ask("POST", "/v2/repository/index", headers={"traceparent": TRACE})
    assert (reply.status, reply.headers["traceparent"]) == (500, TRACE)
    assert [each.traceparent for each in caplog.records if each.getMessage().endswith(" failed")] == [TRACE]


def test_binary_inferences_on_one_connection_have_each_its_own_trace(traced, http_message) -> None:
    text = json.dumps(binary()).encode()
    others = [TRACE, f"{TRACE[:-2]}00", "", f"00-{'a' * 32}{TRACE[35:]}", "nonsense"]
    data = b"".join(
        http_message(
            "POST",
            "/v2/models/identity/infer",
            text + bytes(16),
            {"Inference-Header-Content-Length": str(len(text)), **({"traceparent": each} if each else {})},
        )
        for each in others
    )
    replies = traced.exchange(data, len(others))
    assert [reply.status for reply in replies] == [200] * 5
    assert [reply.headers.get("traceparent") for reply in replies] == [*others[:2], None, others[3], None]
    assert {reply.body for reply in replies} == {replies[0].body}


def test_an_answer_of_strings_has_the_trace(traced) -> None:
    head = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}]}
    reply = traced.infer(
        "echo", {**head, "parameters": {"binary_data_output": True}}, b"\1\0\0\0a", {"traceparent": TRACE}
    )
    assert (reply.status, reply.headers["traceparent"]) == (200, TRACE)
    assert reply.body.endswith(b"\1\0\0\0a")


def test_events_have_the_trace(traced, http_message) -> None:
    with traced.connection() as connection, connection.makefile("rb") as file:
        connection.sendall(http_message("GET", "/live/events", headers={"traceparent": TRACE}))
        lines = list(iter(lambda: file.readline().strip().lower(), b""))
    assert f"traceparent: {TRACE}".encode() in lines


@pytest.mark.parametrize("value", [*UNSOUND, f"cc{TRACE[2:]}\tx", f"{TRACE}\x85", "x" * 600])
@pytest.mark.parametrize("path", ["/v2", "/v2/models/none"])
def test_an_unsound_trace_is_dropped_over_http(traced, path: str, value: str) -> None:
    assert "traceparent" not in traced.ask("GET", path, headers={"traceparent": value}).headers


def test_two_traces_are_none_over_http(traced) -> None:
    lines = f"traceparent: {TRACE}\r\n" * 2
    reply = traced.exchange(f"GET /v2 HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())[0]
    assert (reply.status, "traceparent" in reply.headers) == (200, False)


def test_what_comes_of_a_later_version_is_what_is_known_of_it(traced) -> None:
    later = f"cc{TRACE[2:53]}ff-Set-Cookie: x"
    assert traced.ask("GET", "/v2", headers={"traceparent": later}).headers["traceparent"] == TRACE
    request = message("inference.ServerLiveRequest")().SerializeToString()
    assert trailing(traced.bound.grpc, f"/{SERVICE}/ServerLive", request, ("traceparent", later)) == ("OK", [TRACE])


GRPC = {
    "a plain answer": ("ServerLive", b"", "OK"),
    "an answer that takes a while": ("RepositoryIndex", b"", "OK"),
    "an inference": ("ModelInfer", request_of(), "OK"),
    "a large inference": ("ModelInfer", request_of(rows=8), "OK"),
    "an unknown model": ("ModelInfer", request_of("none"), "NOT_FOUND"),
    "another refusal": ("RepositoryModelLoad", b"", "PERMISSION_DENIED"),
    "no message": ("ModelInfer", b"\xff", "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize(("name", "request_bytes", "status"), GRPC.values(), ids=GRPC)
def test_every_grpc_answer_has_the_trace_at_its_end(traced, name, request_bytes, status) -> None:
    found = trailing(traced.bound.grpc, f"/{SERVICE}/{name}", request_bytes, ("traceparent", TRACE))
    assert found == (status, [TRACE])
    assert trailing(traced.bound.grpc, f"/{SERVICE}/{name}", request_bytes) == (status, [])


@pytest.mark.parametrize("value", UNSOUND)
@pytest.mark.parametrize("name", ["identity", "none"])
def test_an_unsound_trace_is_dropped_over_grpc(traced, name: str, value: str) -> None:
    assert trailing(traced.bound.grpc, INFER, request_of(name), ("traceparent", value))[1] == []


@pytest.mark.parametrize("ends_with_error", [False, True])
def test_a_stream_has_the_trace_at_its_end(traced, ends_with_error: bool) -> None:
    metadata = [("traceparent", TRACE), ("triton_grpc_error", str(ends_with_error).lower())]
    with grpc.insecure_channel(traced.bound.grpc) as channel:
        answers = channel.stream_stream(STREAM)(
            iter([request_of(), request_of("none"), request_of()]), metadata=metadata, timeout=20
        )
        count = 0
        try:
            for _ in answers:
                count += 1
        except grpc.RpcError:
            assert ends_with_error
        assert count == (1 if ends_with_error else 3)
        assert dict(answers.trailing_metadata())["traceparent"] == TRACE


@pytest.mark.parametrize("settings", TRANSPORTS)
def test_who_is_refused_access_has_the_trace(serving, tmp_path, settings) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{token_line('robot', False, 'token')}\n")
    with serving("identity", tokens=str(path), **settings) as server:
        reply = server.ask("GET", "/v2", headers={"traceparent": TRACE})
        assert (reply.status, reply.headers["traceparent"]) == (401, TRACE)
        assert trailing(server.bound.grpc, INFER, request_of(), ("traceparent", TRACE)) == ("UNAUTHENTICATED", [TRACE])
        with grpc.insecure_channel(server.bound.grpc) as channel:
            answers = channel.stream_stream(STREAM)(iter([request_of()]), metadata=[("traceparent", TRACE)], timeout=20)
            with pytest.raises(grpc.RpcError) as refused:
                next(answers)
        assert dict(refused.value.trailing_metadata())["traceparent"] == TRACE


def test_answers_that_lanes_send_have_the_trace(serving, unhurried, http_message) -> None:
    head = json.dumps(binary()).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    with serving(unhurried) as server:
        with server.connection() as connection:
            for trace in (TRACE, "", TRACE, "x"):
                headers = {**length, "traceparent": trace}
                connection.sendall(http_message("POST", "/v2/models/unhurried/infer", head + bytes(16), headers))
                reply = next(iter(server.replies(connection, 1)))
                assert (reply.status, reply.headers.get("traceparent", "")) == (200, trace if trace == TRACE else "")
        for trace in (TRACE, "", TRACE):
            found = trailing(server.bound.grpc, INFER, request_of("unhurried"), ("traceparent", trace))
            assert found == ("OK", [trace] if trace else [])
