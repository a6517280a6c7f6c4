from __future__ import annotations

import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
from fakes.blocking_client import BlockingAsyncClient
from fakes.dtypes import PLAIN

from edge_runtime.client import Client
from edge_runtime.errors import InvalidRequestError, RemoteError, ServerUnavailableError
from edge_runtime.wire.messages import SERVICE, message, methods

FEEDS = {"x": np.array([[1, 2]], np.float32)}


@pytest.fixture(params=[Client, BlockingAsyncClient], ids=["blocking", "asyncio"], autouse=True)
def client_class(request, monkeypatch):
    """Runs every test of this file with both clients."""
    monkeypatch.setitem(globals(), "Client", request.param)


@pytest.fixture
def serve():
    """Starts a made-up gRPC server: `serve(ModelInfer=lambda request, context: answer)`."""
    started = []

    def start(**answers):
        pool = futures.ThreadPoolExecutor(4)
        server = grpc.server(pool, options=(("grpc.max_receive_message_length", -1),))
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                answers[name],
                request_deserializer=request.FromString,
                response_serializer=lambda answer: answer if isinstance(answer, bytes) else answer.SerializeToString(),
            )
            for name, request, _ in methods(SERVICE)
            if name in answers
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append((server, pool))
        return f"grpc://127.0.0.1:{port}"

    yield start
    for server, pool in started:
        server.stop(None).wait(10)
        pool.shutdown()


def response(method, /, **fields):
    return message(f"inference.{method}Response")(**fields)


def infer_response(outputs, raw=()):
    built = response("ModelInfer", raw_output_contents=list(raw))
    for output in outputs:
        built.outputs.add(**output)
    return built


def row(name="y", datatype="FP32", shape=(1,), **contents):
    built = {"name": name, "datatype": datatype, "shape": list(shape)}
    return {**built, "contents": message("inference.InferTensorContents")(**contents)} if contents else built


@pytest.fixture
def infer(serve):
    """`infer(answer)`: what the client makes of this made-up answer to one inference."""

    def run(answer, outputs=None):
        with Client(serve(ModelInfer=lambda request, context: answer), timeout_s=10) as client:
            return client.infer("m", FEEDS, outputs)

    return run


@pytest.mark.parametrize("dtype", PLAIN)
def test_every_data_type_goes_there_and_back(serve, dtype):
    def echo(request, context):
        outputs = [row(f"{x.name}_back", x.datatype, x.shape) for x in request.inputs]
        return infer_response(outputs, request.raw_input_contents)

    values = {
        "a": np.array([[0, 1], [1, 0]], dtype.numpy).T,
        "s": np.array(1, dtype.numpy),
        "e": np.empty((0, 2), dtype.numpy),
    }
    with Client(serve(ModelInfer=echo)) as client:
        result = client.infer("m", values)
    for name, value in values.items():
        np.testing.assert_array_equal(result[f"{name}_back"], value)
        assert result[f"{name}_back"].dtype == value.dtype
        assert result[f"{name}_back"].flags.writeable


def test_a_request_has_names_versions_and_little_endian_bytes(serve):
    seen = []

    def answer(request, context):
        seen.append(request)
        return infer_response([row()], [bytes(4)])

    with Client(serve(ModelInfer=answer)) as client:
        client.infer("m", {"x": np.array([1], ">i4")}, ["y"], "3", "q")
    (request,) = seen
    assert (request.model_name, request.model_version, request.id) == ("m", "3", "q")
    assert [output.name for output in request.outputs] == ["y"]
    assert list(request.raw_input_contents) == [b"\1\0\0\0"]
    assert (request.inputs[0].datatype, list(request.inputs[0].shape)) == ("INT32", [1])


def test_a_message_over_grpcs_usual_4_mib_goes_there_and_back(serve):
    value = np.arange(2**21, dtype=np.float32)
    with Client(serve(ModelInfer=lambda r, c: infer_response([row(shape=[2**21])], r.raw_input_contents))) as client:
        np.testing.assert_array_equal(client.infer("m", {"x": value})["y"], value)


@pytest.mark.parametrize(
    ("datatype", "contents", "expected"),
    [
        ("BOOL", {"bool_contents": [True, False]}, [True, False]),
        ("INT8", {"int_contents": [-1, 2]}, [-1, 2]),
        ("INT64", {"int64_contents": [-1, 2]}, [-1, 2]),
        ("UINT16", {"uint_contents": [1, 2]}, [1, 2]),
        ("UINT64", {"uint64_contents": [1, 2**64 - 1]}, [1, 2**64 - 1]),
        ("FP32", {"fp32_contents": [1.5, 2]}, [1.5, 2]),
        ("FP64", {"fp64_contents": [1.5, 2]}, [1.5, 2]),
    ],
)
def test_typed_contents_are_read_too(infer, datatype, contents, expected):
    assert infer(infer_response([row("y", datatype, [2], **contents)]))["y"].tolist() == expected


@pytest.mark.parametrize(
    "answer",
    [
        infer_response([row()]),
        infer_response([row()], [bytes(3)]),
        infer_response([row()], [bytes(4), bytes(4)]),
        infer_response([row(), row()], [bytes(4), bytes(4)]),
        infer_response([row(datatype="STRING")], [bytes(4)]),
        infer_response([row(datatype="FP16", fp32_contents=[1])]),
        infer_response([row(shape=[-1])], [bytes(4)]),
        infer_response([row(shape=[2**62, 2**62])], [bytes(4)]),
        infer_response([row(datatype="INT8", int_contents=[300])]),
        infer_response([row(datatype="INT8", fp32_contents=[1])]),
    ],
)
def test_a_broken_answer_is_a_remote_error(infer, answer):
    with pytest.raises(RemoteError, match="broken answer") as caught:
        infer(answer)
    assert caught.value.status == "OK"


def test_what_is_no_message_is_a_remote_error(infer):
    with pytest.raises(RemoteError) as caught:
        infer(b"\xff\xff\xff")
    assert caught.value.status == "INTERNAL"


def test_an_output_that_was_asked_for_and_is_missing_is_a_broken_answer(infer):
    with pytest.raises(RemoteError, match="output 'z' was asked for and is missing"):
        infer(infer_response([row()], [bytes(4)]), ["z"])


def refuse(code):
    return lambda request, context: context.abort(code, "made up")


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL]
)
def test_a_refusal_has_the_servers_status_and_text(serve, code):
    complaint = pytest.raises(RemoteError, match=r"ModelInfer: .*made up")
    with Client(serve(ModelInfer=refuse(code))) as client, complaint as caught:
        client.infer("m", FEEDS)
    assert caught.value.status == code.name


def test_unavailable_is_unavailable_with_the_servers_text(serve):
    complaint = pytest.raises(ServerUnavailableError, match="made up")
    with Client(serve(ModelInfer=refuse(grpc.StatusCode.UNAVAILABLE))) as client, complaint:
        client.infer("m", FEEDS)


def test_a_silent_server_is_unavailable_after_the_time_limit(serve):
    over = threading.Event()
    url = serve(ModelInfer=lambda request, context: over.wait(10) and infer_response([]))
    with Client(url, timeout_s=0.2) as client, pytest.raises(ServerUnavailableError, match=r"no answer within 0\.2 s"):
        client.infer("m", FEEDS)
    over.set()


def test_a_refused_connection_is_unavailable_and_says_where(unused_port):
    with Client(f"grpc://127.0.0.1:{unused_port}", timeout_s=10) as client:
        assert (client.is_live(), client.is_ready(), client.is_ready("m")) == (False, False, False)
        with pytest.raises(ServerUnavailableError, match=f"grpc://127.0.0.1:{unused_port}"):
            client.infer("m", FEEDS)


def test_a_closed_client_says_so(unused_port):
    client = Client(f"grpc://127.0.0.1:{unused_port}")
    client.close()
    client.close()
    with pytest.raises(ServerUnavailableError, match="this client is closed"):
        client.infer("m", FEEDS)


def test_what_cannot_be_sent_is_refused_without_a_server(unused_port, monkeypatch):
    monkeypatch.setattr("edge_runtime.client.grpc_calls._MAX_MESSAGE_NBYTES", 2**20 + 4)
    with Client(f"grpc://127.0.0.1:{unused_port}") as client:
        with pytest.raises(InvalidRequestError, match="don't fit into one gRPC message"):
            client.infer("m", FEEDS)
        with pytest.raises(InvalidRequestError, match="expected a NumPy array"):
            client.infer("m", {"x": 1})


@pytest.mark.parametrize("expected", [True, False])
def test_health_is_what_the_server_says(serve, expected):
    url = serve(
        ServerLive=lambda request, context: response("ServerLive", live=expected),
        ServerReady=lambda request, context: response("ServerReady", ready=expected),
        ModelReady=lambda request, context: response("ModelReady", ready=expected and request.name == "m"),
    )
    with Client(url) as client:
        assert [client.is_live(), client.is_ready(), client.is_ready("m")] == [expected] * 3
        assert not client.is_ready("other")


def test_a_model_that_is_not_found_is_not_ready(serve):
    with Client(serve(ModelReady=refuse(grpc.StatusCode.NOT_FOUND))) as client:
        assert not client.is_ready("m")
    with Client(serve(ModelReady=refuse(grpc.StatusCode.UNAUTHENTICATED))) as client, pytest.raises(RemoteError):
        client.is_ready("m")


def test_metadata_has_the_json_form(serve):
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}

    def model_metadata(request, context):
        return response("ModelMetadata", name=request.name, versions=["1"], platform="p", inputs=[tensor], outputs=[])

    url = serve(
        ServerMetadata=lambda request, context: response("ServerMetadata", name="s", version="1", extensions=["e"]),
        ModelMetadata=model_metadata,
    )
    with Client(url) as client:
        assert client.metadata() == {"name": "s", "version": "1", "extensions": ["e"]}
        assert client.metadata("m") == {
            "name": "m",
            "versions": ["1"],
            "platform": "p",
            "inputs": [tensor],
            "outputs": [],
        }


def test_threads_share_a_client(serve):
    with Client(serve(ModelInfer=lambda r, c: infer_response([row(shape=[2])], r.raw_input_contents))) as client:

        def call(i):
            return float(client.infer("m", {"x": np.full(2, i, np.float32)})["y"][1])

        with futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(call, range(40))) == list(range(40))
