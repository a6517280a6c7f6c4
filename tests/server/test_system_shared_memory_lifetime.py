"""Regions that change or go while requests use them: the server lives, and its descriptors return."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Callable, Iterator

import grpc
import numpy as np
import pytest
from fakes.region_clients import SERVICE, SharedObject, place, region_client
from tritonclient.grpc import service_pb2

LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}
ROW = np.array([[1, 2, 3, 4.5]], np.float32)
FOUR = [1, 2, 3, 4.5]
OK = (200, "OK")
BAD = (400, "INVALID_ARGUMENT")
INPUTS = [("x", "FP32", [1, 4], place("r", 16), None)]
OUTPUTS = [("y", place("r", 16, 2048))]


@pytest.fixture(params=[pytest.param({}, id="own"), pytest.param(LIBRARIES, id="libraries", marks=pytest.mark.slow)])
def sharing(request: pytest.FixtureRequest, serving: Any, gated: Any) -> Iterator[Any]:
    with serving(gated.engine, "identity", allow_client_shm=True, **request.param) as started:
        yield started
        gated.release(100)


@pytest.fixture(params=["http", "http kept", "grpc"])
def client(request: pytest.FixtureRequest, sharing: Any, http_message: Any) -> Iterator[Any]:
    with region_client(sharing, http_message, request.param) as made:
        yield made


@pytest.fixture
def shared(client: Any) -> Iterator[SharedObject]:
    """An object of 4096 bytes that begins with a row, registered as `r`."""
    with SharedObject(4096) as made:
        made.put(ROW)
        assert client.register("r", made.key, 4096)[0] in OK
        yield made


def begun(gated: Any, client: Any) -> Future:
    """An inference that runs until `gated.release`."""
    answer: Future = Future()
    thread = threading.Thread(target=lambda: answer.set_result(client.infer("gated", INPUTS, OUTPUTS)))
    thread.start()
    assert gated.begun.acquire(timeout=20)
    return answer


def finished(gated: Any, answer: Future) -> Any:
    gated.release()
    return answer.result(20)


def open_descriptors(path: str) -> int:
    """How many descriptors of this process, which the server runs in, are of that file."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(entry).startswith(path)
        except FileNotFoundError:
            continue
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_1_2_sigbus_a_client_that_shrinks_its_object_before_an_inference_is_refused(client, shared) -> None:
    for nbytes in (15, 0):
        shared.shrink(nbytes)
        code, text = client.infer("identity", INPUTS, OUTPUTS)
        assert (code in BAD, "smaller now" in text) == (True, True)
    shared.shrink(4096)
    assert client.infer("identity", INPUTS, OUTPUTS)[0] in OK


def test_2_3_region_shrunk_a_client_that_shrinks_its_object_during_an_inference_is_refused(
    client, shared, gated
) -> None:
    answer = begun(gated, client)
    shared.shrink(0)
    code, text = finished(gated, answer)
    assert (code in BAD, "smaller now" in text) == (True, True)
    assert Path(shared.path).stat().st_size == 0


def test_2_4_unlinked_a_client_that_unlinks_its_object_during_an_inference_is_answered(client, shared, gated) -> None:
    answer = begun(gated, client)
    shared.unlink()
    assert finished(gated, answer)[0] in OK
    assert shared.get(4, 2048) == FOUR


def test_2_4_copied_a_client_that_rewrites_its_object_during_an_inference_gets_what_was_there_before(
    client, shared, gated
) -> None:
    answer = begun(gated, client)
    shared.put(np.full(4, 9, np.float32))
    assert finished(gated, answer)[0] in OK
    assert shared.get(4, 2048) == FOUR


def test_1_2_sigbus_a_client_that_shrinks_and_rewrites_all_the_time_does_not_end_the_server(client, shared) -> None:
    is_over = threading.Event()

    def disturb() -> None:
        while not is_over.is_set():
            shared.shrink(0)
            shared.shrink(4096)
            shared.put(ROW)

    thread = threading.Thread(target=disturb)
    thread.start()
    codes = {client.infer("identity", INPUTS, OUTPUTS)[0] for _ in range(200)}
    is_over.set()
    thread.join()
    assert codes <= {*OK, *BAD}
    shared.put(ROW)
    assert client.infer("identity", INPUTS, OUTPUTS)[0] in OK


@pytest.mark.parametrize("name", ["r", ""], ids=["one", "all"])
def test_2_3_region_in_use_unregister_in_use_lets_the_last_request_end_and_no_new_one_begin(
    client, shared, gated, name
) -> None:
    answer = begun(gated, client)
    assert client.unregister(name)[0] in OK
    assert client.status()[1] == {}
    assert client.infer("gated", INPUTS, OUTPUTS)[0] in (404, "NOT_FOUND")
    assert open_descriptors(shared.path) == 2
    assert finished(gated, answer)[0] in OK
    assert shared.get(4, 2048) == FOUR
    wait_until(lambda: open_descriptors(shared.path) == 1)


def test_a_name_in_use_may_be_registered_anew(client, shared, gated) -> None:
    answer = begun(gated, client)
    client.unregister("r")
    with SharedObject(4096) as other:
        assert client.register("r", other.key, 4096)[0] in OK
        assert finished(gated, answer)[0] in OK
        assert (shared.get(4, 2048), other.get(4, 2048)) == (FOUR, [0] * 4)


def test_descriptors_return_when_regions_are_unregistered(client) -> None:
    with SharedObject(64) as made:
        for round_number in range(20):
            for index in range(5):
                assert client.register(f"r{round_number}_{index}", made.key, 16, index)[0] in OK
            assert client.register("odd", made.key, 65)[0] in BAD
            assert open_descriptors(made.path) == 6
            client.unregister()
            assert open_descriptors(made.path) == 1


def test_descriptors_return_after_requests_that_failed(client, shared) -> None:
    for given in (place("nope", 16), place("r", 16, 4090), place("r", 12)):
        client.infer("identity", [("x", "FP32", [1, 4], given, None)], OUTPUTS)
        client.infer("identity", INPUTS, [("y", given)])
    client.unregister()
    assert open_descriptors(shared.path) == 1


def test_descriptors_return_when_the_server_ends(serving, http_message) -> None:
    with SharedObject(64) as made:
        with serving("identity", allow_client_shm=True) as server, region_client(
            server, http_message, "http"
        ) as client:
            client.register("r", made.key, 64)
            assert open_descriptors(made.path) == 2
        assert open_descriptors(made.path) == 1


def infer_and_leave(server: Any, http_message: Any, way: str) -> Callable[[], None]:
    """Begins an inference; gives what takes the client away."""
    if way == "grpc":
        channel = grpc.insecure_channel(server.bound.grpc)
        message = service_pb2.ModelInferRequest(model_name="gated")
        tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        for each in (tensor, message.outputs.add(name="y")):
            each.parameters["shared_memory_region"].string_param = "r"
            each.parameters["shared_memory_byte_size"].int64_param = 16
        call = channel.unary_unary(SERVICE + "ModelInfer").future(message.SerializeToString())
        return lambda: (call.cancel(), channel.close())  # type: ignore[func-returns-value,return-value]
    text = (
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"shared_memory_region": "r", '
        b'"shared_memory_byte_size": 16}}], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r", '
        b'"shared_memory_byte_size": 16, "shared_memory_offset": 2048}}]}'
    )
    headers = {"Inference-Header-Content-Length": str(len(text))} if way == "http kept" else {}
    connection = server.connection()
    connection.sendall(http_message("POST", "/v2/models/gated/infer", text, headers))
    return connection.close  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["http", "http kept", "grpc"])
def test_descriptors_return_when_a_client_goes_during_its_inference(sharing, http_message, gated, way) -> None:
    with region_client(sharing, http_message, "http") as client, SharedObject(4096) as made:
        client.register("r", made.key, 4096)
        running = infer_and_leave(sharing, http_message, way)
        assert gated.begun.acquire(timeout=20)
        waiting = infer_and_leave(sharing, http_message, way)
        wait_until(lambda: 'pending_request_count{model="gated",version="3"} 1' in metrics(sharing))
        client.unregister()
        assert open_descriptors(made.path) == 2
        waiting()
        running()
        wait_until(lambda: open_descriptors(made.path) == 1)
        gated.release(2)
        wait_until(lambda: sharing.counts("gated")[0] == 1)
        assert made.get(4, 2048) == [0] * 4


def metrics(server: Any) -> str:
    return server.ask("GET", "/metrics").body.decode()  # type: ignore[no-any-return]
