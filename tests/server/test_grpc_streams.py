"""`ModelStreamInfer` by Triton's own clients, on both transports, over TCP and the Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from typing import Any, Callable, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from fakes.region_clients import SharedObject
from tritonclient.grpc import service_pb2

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
ROW = np.array([[1, 2, 3, 4.5]], np.float32)
PLACES = ["own", "unix", "grpcio"]


class Streaming:
    """A server of one transport, and what to call it by."""

    def __init__(self, serving: Callable[..., Any], place: str, folder: Any) -> None:
        self._serving = serving
        self._transport = "grpcio" if place == "grpcio" else "own"
        self._path = str(folder / "socket") if place == "unix" else None

    @contextlib.contextmanager
    def __call__(self, *engines: Any, **settings: Any) -> Iterator[Any]:
        with self._serving(*engines, unix=self._path, grpc_transport=self._transport, **settings) as server:
            server.target = server.bound.grpc if self._path is None else f"unix:{self._path}"
            yield server


@pytest.fixture(params=PLACES)
def streaming(request: pytest.FixtureRequest, serving: Any, tmp_path: Any) -> Streaming:
    return Streaming(serving, request.param, tmp_path)


@pytest.fixture(scope="module", params=PLACES)
def server(request: pytest.FixtureRequest, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with Streaming(serving, request.param, tmp_path_factory.mktemp("streams"))("identity", "root", "large") as started:
        yield started


class Client:
    """Triton's client with one stream, and the queue of what came."""

    def __init__(self, server: Any, **options: Any) -> None:
        self.triton = tritonclient.grpc.InferenceServerClient(server.target)
        self.answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.triton.start_stream(lambda result, error: self.answers.put((result, error)), **options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.triton.stop_stream(cancel_requests=True)
        self.triton.close()

    def send(self, model: str, array: np.ndarray = ROW, **options: Any) -> None:
        self.triton.async_stream_infer(model, [tensor(array)], **options)

    def get(self) -> Any:
        """The next response, or the text of an error."""
        result, error = self.answers.get(timeout=20)
        return result if error is None else error


def tensor(array: np.ndarray) -> Any:
    made = tritonclient.grpc.InferInput("x", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


def exchanged(server: Any, *messages: bytes, metadata: Any = None) -> tuple[list[Any], str]:
    """The responses to raw messages, and the status."""
    found = []
    with grpc.insecure_channel(server.target) as channel:
        call = channel.stream_stream(METHOD)(iter(messages), timeout=20, metadata=metadata)
        try:
            for response in call:
                found.append(service_pb2.ModelStreamInferResponse.FromString(response))
        except grpc.RpcError as error:
            return found, error.code().name
        return found, call.code().name


def raw(identity: str = "", model: str = "identity", shape: tuple[int, ...] = (1, 4), **parameters: Any) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model, id=identity, raw_input_contents=[ROW.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=shape)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    return request.SerializeToString()


def test_2_1_stream_infer_every_request_gets_its_answer_in_order(server) -> None:
    with Client(server) as client:
        for each in range(300):
            client.send("identity", np.full((1 + each % 8, 4), each, np.float32), request_id=f"é{each}")
        for each in range(300):
            found = client.get()
            assert found.get_response().id == f"é{each}"
            np.testing.assert_array_equal(found.as_numpy("y"), np.full((1 + each % 8, 4), each))
        client.triton.stop_stream()
        assert client.answers.empty()


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_an_answer_says_that_it_is_the_final_one(server, is_asked_for) -> None:
    with Client(server) as client:
        client.send("identity", enable_empty_final_response=is_asked_for)
        response = client.get().get_response()
        assert response.parameters["triton_final_response"].bool_param
        assert (response.model_name, response.model_version) == ("identity", "3")


def test_2_1_stream_infer_an_error_is_an_answer_with_its_id_and_the_stream_goes_on(server) -> None:
    messages = [raw("a"), raw("b", shape=(2, 4)), raw("c", model="none"), raw("d", sequence_id=7), raw("e")]
    found, status = exchanged(server, *messages)
    assert [(each.infer_response.id, bool(each.error_message)) for each in found] == [
        ("a", False),
        ("b", True),
        ("c", True),
        ("d", True),
        ("e", False),
    ]
    assert "expected 32 bytes" in found[1].error_message
    assert "unknown model 'none'" in found[2].error_message
    assert "'sequence_id' belongs to an extension" in found[3].error_message
    assert (found[4].infer_response.raw_output_contents[0], status) == (ROW.tobytes(), "OK")


def test_a_client_may_have_the_first_error_end_the_stream(server) -> None:
    messages = [raw("a"), raw("b", model="none"), raw("c")]
    found, status = exchanged(server, *messages, metadata=[("triton_grpc_error", "true")])
    assert ([each.infer_response.id for each in found], status) == (["a"], "NOT_FOUND")


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x05none", bytes(1000)])
def test_what_is_no_request_ends_the_stream_after_the_answers_before(server, garbage, logged) -> None:
    found, status = exchanged(server, raw("a"), garbage, raw("b"))
    assert ([each.infer_response.id for each in found], status) == (["a"], "INVALID_ARGUMENT")
    assert not logged()


def test_a_message_over_the_limit_ends_the_stream(streaming) -> None:
    with streaming("identity", max_request_bytes=1024) as server:
        assert exchanged(server, raw("x" * 2000))[1] == "RESOURCE_EXHAUSTED"
        assert exchanged(server, raw("x" * 900))[1] == "OK"


def test_tritons_client_on_asyncio_gets_its_answers(server) -> None:
    async def requests() -> Any:
        for each in range(50):
            shape = (1, 5 if each == 20 else 4)
            yield {"model_name": "identity", "inputs": [tensor(np.full(shape, each, np.float32))]}

    async def main() -> list[Any]:
        async with tritonclient.grpc.aio.InferenceServerClient(server.target) as client:
            return [found async for found in client.stream_infer(requests())]

    found = asyncio.run(main())
    assert [None if error else result.as_numpy("y")[0, 0] for result, error in found] == [
        None if each == 20 else each for each in range(50)
    ]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_compressed(server, algorithm) -> None:
    with Client(server, compression_algorithm=algorithm) as client:
        for each in range(5):
            client.send("identity", ROW + each)
        assert [client.get().as_numpy("y")[0, 0] for _ in range(5)] == [1, 2, 3, 4, 5]


def test_large_tensors_go_there_and_back(server) -> None:
    arrays = [np.random.default_rng(each).normal(size=1 << 17).astype(np.float32) for each in range(40)]
    with Client(server) as client:
        for each in arrays:
            client.send("large", each)
        for each in arrays:
            np.testing.assert_array_equal(client.get().as_numpy("y"), each)


def test_requests_run_side_by_side_and_answers_wait_for_those_before(streaming, gated) -> None:
    with streaming(gated.engine, "identity") as server, Client(server) as client:
        client.send("gated", request_id="slow")
        client.send("identity", request_id="quick")
        assert gated.begun.acquire(timeout=20)
        while server.counts("identity") != (1, 0):
            pass
        assert client.answers.empty()
        gated.release()
        assert [client.get().get_response().id for _ in range(2)] == ["slow", "quick"]


def test_no_more_than_sixteen_requests_are_under_way(streaming, gated) -> None:
    with streaming(gated.engine) as server, Client(server) as client:
        for each in range(40):
            client.send("gated", request_id=str(each))
        assert gated.begun.acquire(timeout=20)
        pending = b'pending_request_count{model="gated",version="3"} 15'
        while pending not in server.ask("GET", "/metrics").body:
            pass
        gated.release(40)
        assert [client.get().get_response().id for _ in range(40)] == [str(each) for each in range(40)]


def test_statistics_are_exact(streaming) -> None:
    with streaming("identity", "root") as server, Client(server) as client:
        for rows in (1, 3, 3, 9):
            client.send("identity", np.ones((rows, 4), np.float32))
        assert [type(client.get()).__name__ for _ in range(4)] == 3 * ["InferResult"] + ["InferenceServerException"]
        (found,) = client.triton.get_inference_statistics("identity").model_stats
        assert (found.inference_count, found.execution_count) == (7, 3)
        assert (server.counts("identity"), server.counts("root")) == ((3, 1), (0, 0))
        assert server.failures("identity") == {"OTHER": 1}


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_stream_that_is_cancelled_cancels_what_waits(streaming, gated, end) -> None:
    with streaming(gated.engine) as server:
        with Client(server) as client:
            for _ in range(5):
                client.send("gated")
            assert gated.begun.acquire(timeout=20)
            while b'pending_request_count{model="gated",version="3"} 4' not in server.ask("GET", "/metrics").body:
                pass
            client.triton.stop_stream(cancel_requests=True) if end == "cancel" else client.triton._channel.close()
        while server.failures("gated") != {"CANCELED": 4}:
            pass
        gated.release()
        while server.counts("gated") != (1, 4):
            pass


def test_the_streams_own_time_ends_it(streaming, gated) -> None:
    with streaming(gated.engine) as server, Client(server, stream_timeout=0.3) as client:
        client.send("gated")
        assert gated.begun.acquire(timeout=20)
        assert client.get().status() == "StatusCode.DEADLINE_EXCEEDED"
        gated.release()


def test_a_request_has_a_deadline_of_its_own(server) -> None:
    with Client(server) as client:
        client.send("identity", timeout=1)
        client.send("identity", parameters={"deadline_ms": 10_000})
        assert "deadline" in str(client.get())
        assert client.get().as_numpy("y").tolist() == ROW.tolist()


def test_a_drain_answers_what_a_stream_brought_and_ends_it(streaming, gated) -> None:
    with streaming(gated.engine, "identity") as server, Client(server) as client, Client(server) as silent:
        client.send("gated", request_id="it")
        assert gated.begun.acquire(timeout=20)
        server.signal()
        while server.ask("GET", "/v2/health/ready").status != 503:
            pass
        client.send("identity")
        while not server.failures("identity"):
            pass
        gated.release()
        assert client.get().get_response().id == "it"
        assert client.get().status() == silent.get().status() == "StatusCode.UNAVAILABLE"
        server.thread.join(20)
        assert server.outcome == [True]


def test_tensors_may_lie_in_regions(streaming) -> None:
    with streaming("identity", allow_client_shm=True) as server, Client(server) as client, SharedObject(64) as shared:
        client.triton.register_system_shared_memory("r", f"/{shared.key}", 64)
        shared.put(ROW)
        x, y = tritonclient.grpc.InferInput("x", [1, 4], "FP32"), tritonclient.grpc.InferRequestedOutput("y")
        x.set_shared_memory("r", 16)
        for offset in (16, 32, 60):
            y.set_shared_memory("r", 16, offset)
            client.triton.async_stream_infer("identity", [x], outputs=[y])
        found = [client.get() for _ in range(3)]
        assert [len(each.get_response().raw_output_contents) for each in found[:2]] == [1, 1]
        assert "region" in str(found[2])
        assert shared.get(4, 16) == shared.get(4, 32) == ROW[0].tolist()


def test_1_2_cancelled_a_hundred_streams_cancelled_at_once_leave_the_server_well(streaming, gated) -> None:
    with streaming(gated.engine, "identity") as server, grpc.insecure_channel(server.target) as channel:
        calls = [channel.stream_stream(METHOD)(iter([raw(model="gated")])) for _ in range(100)]
        assert gated.begun.acquire(timeout=20)
        while b'pending_request_count{model="gated",version="3"} 99' not in server.ask("GET", "/metrics").body:
            pass
        for each in calls:
            each.cancel()
        while server.failures("gated") != {"CANCELED": 99}:
            pass
        gated.release()
        assert exchanged(server, raw("well"))[1] == "OK"
