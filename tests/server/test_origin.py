"""What the log says of a request: its id, and its place in a trace."""

from __future__ import annotations

import json
import logging

import grpc
import pytest

from edge_runtime.cli.service_log import JsonLines
from edge_runtime.server.models import ModelTable
from edge_runtime.server.origin import origin_fields, traceparent_of
from edge_runtime.wire.messages import SERVICE, message

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("value", [TRACE, f"{TRACE[:-2]}00", f"{TRACE[:-2]}03"])
def test_a_sound_traceparent_is_taken_as_it_stands(value: str) -> None:
    assert traceparent_of(value.encode()) == value


@pytest.mark.parametrize("value", [TRACE, f"{TRACE[:-2]}ff", f"{TRACE}-and-more", f"{TRACE}-\r\nSet-Cookie: x"])
def test_of_a_later_version_that_is_taken_which_is_known(value: str) -> None:
    assert traceparent_of(f"cc{value[2:]}".encode()) == TRACE


def test_several_traceparents_are_none() -> None:
    assert traceparent_of(TRACE.encode(), TRACE.encode()) is None
    assert traceparent_of() is None
    assert traceparent_of(None) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE[:-1],
        f"{TRACE}-more",
        f"ff{TRACE[2:]}",
        f"cc{TRACE[2:]}x",
        TRACE.upper(),
        f"00-{'0' * 32}{TRACE[35:]}",
        f"{TRACE[:36]}{'0' * 16}-01",
        TRACE.replace("-", "_"),
        f"cc{TRACE[2:]}-{'x' * 600}",
        "\n" * 55,
    ],
)
def test_another_traceparent_is_none(value: str) -> None:
    assert traceparent_of(value.encode()) is None


def test_an_id_is_text_and_is_cut() -> None:
    assert origin_fields("x" * 1000, None) == {"request_id": "x" * 128}
    assert origin_fields(7, TRACE) == {"traceparent": TRACE}
    assert origin_fields("", None) == {}


def origins(caplog: pytest.LogCaptureFixture) -> list[tuple[str | None, str | None]]:
    found = [each for each in caplog.records if each.getMessage().startswith("refused with")]
    return [(getattr(each, "request_id", None), getattr(each, "traceparent", None)) for each in found]


@pytest.fixture(scope="module")
def own(serving):
    """A server on our own transports."""
    with serving("identity") as started:
        yield started


@pytest.fixture(scope="module", params=["own", "grpcio"])
def either(request, serving):
    """A server on each gRPC transport."""
    with serving("identity", grpc_transport=request.param) as started:
        yield started


@pytest.mark.parametrize("as_json", [True, False])
def test_a_refusal_over_http_is_logged_with_id_and_trace(own, caplog, as_json: bool) -> None:
    head = {"id": "frame-7", "inputs": [{"name": "wrong", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    with caplog.at_level(logging.DEBUG, "edge_runtime.server"):
        if as_json:
            reply = own.ask("POST", "/v2/models/identity/infer", json.dumps(head).encode(), {"traceparent": TRACE})
        else:
            head["inputs"][0]["parameters"] = {"binary_data_size": 16}
            del head["inputs"][0]["data"]
            reply = own.infer("identity", head, bytes(16), {"traceparent": TRACE})
    assert reply.status == 400
    assert origins(caplog) == [("frame-7", TRACE)]


def called(server, method: str, request: bytes) -> None:
    """Makes a call that is refused, with a trace."""
    with grpc.insecure_channel(server.bound.grpc) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/{SERVICE}/{method}")(request, metadata=[("traceparent", TRACE)], timeout=10)


def inference(name: str, request_id: str) -> bytes:
    return message("inference.ModelInferRequest")(model_name=name, id=request_id).SerializeToString()


def test_a_refusal_over_grpc_is_logged_with_id_and_trace(either, caplog) -> None:
    with caplog.at_level(logging.DEBUG, "edge_runtime.server"):
        called(either, "ModelInfer", inference("absent", "frame-8"))
        called(either, "ModelConfig", message("inference.ModelConfigRequest")(name="absent").SerializeToString())
    assert origins(caplog) == [("frame-8", TRACE), (None, TRACE)]


def test_a_refusal_on_a_stream_is_logged_with_id_and_trace(either, caplog) -> None:
    requests = [inference("absent", "frame-1"), inference("identity", "frame-2")]
    with caplog.at_level(logging.DEBUG, "edge_runtime.server"), grpc.insecure_channel(either.bound.grpc) as channel:
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")
        assert len(list(stream(iter(requests), metadata=[("traceparent", TRACE)], timeout=10))) == 2
    assert sorted(origins(caplog)) == [("frame-1", TRACE), ("frame-2", TRACE)]


def test_a_failure_of_ours_over_grpc_is_logged_with_id_and_trace(either, caplog, monkeypatch) -> None:
    def find(self: ModelTable, name: str, version: str = "") -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ModelTable, "find", find)
    called(either, "ModelInfer", inference("identity", "frame-9"))
    failed = [each for each in caplog.records if each.getMessage() == "a gRPC call failed"]
    assert [(each.request_id, each.traceparent) for each in failed] == [("frame-9", TRACE)]


def test_a_refusal_by_the_head_over_http_is_logged_with_its_trace(own, caplog) -> None:
    with caplog.at_level(logging.DEBUG, "edge_runtime.server"):
        own.ask("POST", "/v2/logging", headers={"traceparent": TRACE, "Origin": "http://x"})
    assert origins(caplog) == [(None, TRACE)]


def test_without_a_word_of_the_client_nothing_is_made_up(server, caplog) -> None:
    with caplog.at_level(logging.DEBUG, "edge_runtime.server"):
        server.ask("GET", "/v2/models/absent", headers={"traceparent": "nonsense"})
    assert origins(caplog) == [(None, None)]


def test_json_lines_have_fields_for_both() -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "m", **origin_fields("a\nb", TRACE)})
    line = json.loads(JsonLines().format(record))
    assert (line["request_id"], line["traceparent"]) == ("a\\nb", TRACE)
