"""Deadlines, priorities, typed refusals and retries, over every protocol and with both clients."""

from __future__ import annotations

import json
import socket
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
from fakes.blocking_client import BlockingAsyncClient

from edge_runtime.client import Client
from edge_runtime.client.refusals import retry_after_s
from edge_runtime.client.request import MAX_DEADLINE_MS, Hurry
from edge_runtime.client.retries import Retries
from edge_runtime.errors import (
    ConfigError,
    DeadlineExpiredError,
    DeadlineRefusedError,
    InvalidRequestError,
    QueueFullError,
    RemoteError,
    ServerUnavailableError,
)
from edge_runtime.wire.messages import SERVICE, message

FEEDS = {"x": np.zeros(1, np.float32)}
EMPTY = b'{"outputs": []}'


@pytest.fixture(params=[Client, BlockingAsyncClient], ids=["blocking", "asyncio"])
def client_class(request):
    return request.param


@pytest.fixture
def connect(client_class):
    made = []

    def build(url, **options):
        made.append(client_class(url, **options))
        return made[-1]

    yield build
    for one in made:
        getattr(one, "stop", one.close)()


@pytest.fixture
def serve_grpc():
    """Starts a made-up gRPC server whose `ModelInfer` is the function that is given."""
    started = []

    def start(answer):
        pool = futures.ThreadPoolExecutor(2)
        server = grpc.server(pool)
        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=message("inference.ModelInferRequest").FromString,
            response_serializer=lambda built: built.SerializeToString(),
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append((server, pool))
        return f"grpc://127.0.0.1:{port}"

    yield start
    for server, pool in started:
        server.stop(None).wait(10)
        pool.shutdown()


HURRIES = [{}, {"deadline_ms": 33_000}, {"deadline_ms": 33_000.5, "priority": 2}]


@pytest.mark.parametrize("hurry", HURRIES)
def test_deadlines_and_priorities_are_parameters_over_http(scripted, http_answer, connect, hurry):
    server = scripted([[http_answer(EMPTY)]])
    connect(server.url).infer("m", FEEDS, **hurry)
    head = json.loads(server.requests[0].partition(b"\r\n\r\n")[2][:-4])
    assert head["parameters"] == {"binary_data_output": True, **hurry}
    assert type(head["parameters"].get("deadline_ms")) is type(hurry.get("deadline_ms"))


@pytest.mark.parametrize("hurry", HURRIES)
def test_deadlines_and_priorities_are_parameters_over_grpc_and_the_deadline_is_its_own(serve_grpc, connect, hurry):
    seen = []

    def answer(request, context):
        seen.append((request, context.time_remaining()))
        return message("inference.ModelInferResponse")()

    connect(serve_grpc(answer)).infer("m", FEEDS, **hurry)
    ((request, left_s),) = seen
    said = {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in request.parameters.items()}
    assert said == hurry
    assert left_s <= (34 if hurry else 61)


@pytest.mark.parametrize(
    "hurry",
    [
        {"deadline_ms": 0},
        {"deadline_ms": -1},
        {"deadline_ms": float("nan")},
        {"deadline_ms": float("inf")},
        {"deadline_ms": MAX_DEADLINE_MS + 1},
        {"deadline_ms": True},
        {"deadline_ms": "5"},
        {"priority": -1},
        {"priority": 1.5},
        {"priority": 2**16},
    ],
)
def test_impossible_deadlines_and_priorities_are_refused_unsent(connect, unused_port, hurry):
    with pytest.raises(InvalidRequestError):
        connect(f"http://127.0.0.1:{unused_port}").infer("m", FEEDS, **hurry)


def test_an_unknown_option_is_a_mistake_of_the_caller(connect, unused_port):
    with pytest.raises(TypeError):
        connect(f"http://127.0.0.1:{unused_port}").infer("m", FEEDS, deadline=5)


REFUSALS = [
    ("QueueFullError", QueueFullError, "RESOURCE_EXHAUSTED"),
    ("DeadlineRefusedError", DeadlineRefusedError, "RESOURCE_EXHAUSTED"),
    ("DeadlineExpiredError", DeadlineExpiredError, "DEADLINE_EXCEEDED"),
    ("ServerUnavailableError", ServerUnavailableError, "UNAVAILABLE"),
    ("NoSuchError", ServerUnavailableError, "UNAVAILABLE"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal[0])
def test_refusals_are_typed_and_say_when_to_try_again(scripted, http_answer, serve_grpc, connect, refusal):
    name, kind, status = refusal
    headers = f"Edge-Runtime-Error: {name}\r\nRetry-After: 3\r\nRetry-After-Ms: 250\r\n"

    def refuse(request, context):
        context.set_trailing_metadata((("edge-runtime-error", name), ("retry-after-ms", "250")))
        context.abort(getattr(grpc.StatusCode, status), "made up")

    urls = scripted([[http_answer(b'{"error": "made up"}', 503, extra=headers)]]).url, serve_grpc(refuse)
    for url in urls:
        with pytest.raises(kind, match="made up") as caught:
            connect(url).infer("m", FEEDS)
        assert (type(caught.value), caught.value.retry_after_s) == (kind, 0.25)


def test_another_servers_refusals_keep_their_meaning(scripted, http_answer, serve_grpc, connect):
    with pytest.raises(ServerUnavailableError) as caught:
        connect(scripted([[http_answer(b"", 503)]]).url).infer("m", FEEDS)
    assert type(caught.value) is ServerUnavailableError
    url = serve_grpc(lambda request, context: context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large"))
    with pytest.raises(RemoteError) as remote:
        connect(url).infer("m", FEEDS)
    assert remote.value.status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("milliseconds", "seconds", "expected"),
    [
        ("250", "3", 0.25),
        (None, "3", 3.0),
        ("soon", "3", 3.0),
        (None, "Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("-1", None, None),
        ("9" * 15, None, 3600.0),
        ("9" * 5000, None, None),
        (None, None, None),
    ],
)
def test_waits_are_read_from_headers(milliseconds, seconds, expected):
    assert retry_after_s(milliseconds, seconds) == expected


def test_a_call_ends_at_its_deadline(connect, serve_grpc):
    over = threading.Event()
    url = serve_grpc(lambda request, context: over.wait(10) and message("inference.ModelInferResponse")())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for each in (f"http://127.0.0.1:{listener.getsockname()[1]}", url):
            with pytest.raises(DeadlineExpiredError, match="no answer within the deadline of 50 ms"):
                connect(each, timeout_s=20).infer("m", FEEDS, deadline_ms=50)
    over.set()


def test_a_connection_outlives_a_deadline_that_was_kept(scripted, http_answer, connect):
    server = scripted([[http_answer(EMPTY), http_answer(EMPTY)]])
    client = connect(server.url)
    client.infer("m", FEEDS, deadline_ms=10_000)
    client.infer("m", FEEDS)
    assert len(server.requests) == 2


BUSY = "Edge-Runtime-Error: QueueFullError\r\nRetry-After-Ms: 1\r\n"


def test_a_refused_inference_is_sent_again_as_often_as_may_be(scripted, http_answer, connect):
    busy, good = http_answer(b"", 503, extra=BUSY), http_answer(EMPTY)
    server = scripted([[busy, busy, good, busy, busy, busy]])
    client = connect(server.url, retries=2)
    client.infer("m", FEEDS)
    with pytest.raises(QueueFullError):
        client.infer("m", FEEDS)
    assert len(server.requests) == 6


def test_without_retries_a_refusal_is_final(scripted, http_answer, connect):
    server = scripted([[http_answer(b"", 503, extra=BUSY)]])
    with pytest.raises(QueueFullError):
        connect(server.url).infer("m", FEEDS)


@pytest.mark.parametrize("status", [400, 404, 413, 500])
def test_other_refusals_are_never_sent_again(scripted, http_answer, connect, status):
    server = scripted([[http_answer(b"", status, extra=BUSY)]])
    with pytest.raises(RemoteError):
        connect(server.url, retries=5).infer("m", FEEDS)
    assert len(server.requests) == 1


def test_a_refusal_that_says_no_time_is_not_sent_again(scripted, http_answer, connect):
    server = scripted([[http_answer(b"", 503)]])
    with pytest.raises(ServerUnavailableError):
        connect(server.url, retries=5).infer("m", FEEDS)
    assert len(server.requests) == 1


def test_a_repeated_request_says_what_is_left_of_its_deadline(scripted, http_answer, connect):
    server = scripted([[http_answer(b"", 503, extra=BUSY), http_answer(EMPTY)]])
    connect(server.url, retries=1).infer("m", FEEDS, deadline_ms=20_000)
    first, second = (json.loads(sent.partition(b"\r\n\r\n")[2][:-4])["parameters"] for sent in server.requests)
    assert first["deadline_ms"] == 20_000
    assert 15_000 < second["deadline_ms"] < 19_999


def test_a_wait_beyond_the_deadline_is_not_waited(scripted, http_answer, connect):
    late = http_answer(b"", 503, extra="Edge-Runtime-Error: QueueFullError\r\nRetry-After: 60\r\n")
    server = scripted([[late]])
    with pytest.raises(QueueFullError):
        connect(server.url, retries=5).infer("m", FEEDS, deadline_ms=10_000)
    assert len(server.requests) == 1


@pytest.mark.parametrize("retries", [-1, 1.5, True])
def test_an_impossible_number_of_retries_is_refused(client_class, retries):
    with pytest.raises(ConfigError, match="retries"):
        Client("http://127.0.0.1:1", retries=retries)


def test_waits_grow_and_are_as_long_as_the_server_says_at_least():
    retries = Retries(4, Hurry(), 60.0, clock=lambda: 0.0, chance=lambda: 0.5)
    waits = [retries.wait_s(QueueFullError("x", after)) for after in (0.0, 0.0, 1.5, 0.0, 0.0)]
    assert waits == [pytest.approx(0.003), pytest.approx(0.006), 1.5, pytest.approx(0.024), None]


def test_no_attempt_begins_after_the_deadline_or_the_time_limit():
    now = [0.0]
    retries = Retries(9, Hurry(1000), 60.0, clock=lambda: now[0], chance=lambda: 0.0)
    assert retries.wait_s(QueueFullError("x", 0.5)) == 0.5
    now[0] = 0.6
    assert retries.hurry().deadline_ms == pytest.approx(400)
    assert retries.wait_s(QueueFullError("x", 0.4)) is None
    patient = Retries(9, Hurry(), 2.0, clock=lambda: now[0], chance=lambda: 0.0)
    assert patient.wait_s(QueueFullError("x", 2.0)) is None
