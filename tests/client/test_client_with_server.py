"""Both clients against the real server, over every protocol."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from fakes.blocking_client import BlockingAsyncClient
from fakes.dtypes import HAS_BFLOAT16, PLAIN, onnx_type
from onnx import helper

from edge_runtime.client import Client
from edge_runtime.engine.engine import EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.errors import ConfigError, RemoteError, ServerUnavailableError
from edge_runtime.plan.serving import ServingTable
from edge_runtime.profiler.bench import bench_server
from edge_runtime.profiler.settings import BenchSettings
from edge_runtime.server.accelerators import prepared
from edge_runtime.server.lifecycle import Stop, serve
from edge_runtime.server.settings import ServerSettings
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec, bfloat16_from_float32


def identity_engine(name, dtypes, limits):
    """An engine that gives each input `in_TYPE` back as `out_TYPE`."""
    axes = [f"axis{i}" if size == -1 else size for i, size in enumerate(limits.spec_shape)]
    kinds = {dtype: onnx_type(dtype) for dtype in dtypes}
    inputs = [helper.make_tensor_value_info(f"in_{d.value}", kind, axes) for d, kind in kinds.items()]
    outputs = [helper.make_tensor_value_info(f"out_{d.value}", kind, axes) for d, kind in kinds.items()]
    nodes = [helper.make_node("Identity", [f"in_{d.value}"], [f"out_{d.value}"]) for d in dtypes]
    model = helper.make_model(
        helper.make_graph(nodes, name, inputs, outputs), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    signature = Signature(
        tuple(TensorSpec(f"in_{d.value}", d, limits.spec_shape) for d in dtypes),
        tuple(TensorSpec(f"out_{d.value}", d, limits.spec_shape) for d in dtypes),
        {f"in_{d.value}": limits for d in dtypes},
    )
    info = EngineInfo(name, 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
    return engine_from_bytes(model.SerializeToString(), info, signature, EngineOptions(threads_per_run=1))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URLs of a real server with an identity model of every type, one of scalars and one with a batch axis."""
    engines = [
        identity_engine("types", list(PLAIN), ShapeRange.fixed((2, 3))),
        identity_engine("strings", [DType.BYTES, DType.INT8], ShapeRange((1, 2), (1, 2), (8, 2))),
        *([identity_engine("halves", [DType.BF16], ShapeRange((1, 2), (1, 2), (8, 2)))] if HAS_BFLOAT16 else []),
        identity_engine("scalar", [DType.FP32], ShapeRange.fixed(())),
        identity_engine("batched", [DType.FP32], ShapeRange((1, 2), (2, 2), (8, 2))),
        identity_engine("large", [DType.FP32], ShapeRange.fixed((3, 1024, 1024))),
    ]
    path = str(tmp_path_factory.mktemp("unix") / "s")
    settings = ServerSettings(http="127.0.0.1:0", grpc="127.0.0.1:0", unix=path, drain_s=1)
    ready, found = threading.Event(), {}

    async def run():
        stop = Stop(asyncio.Event(), asyncio.Event())

        def on_ready(bound):
            found.update(bound=bound, loop=asyncio.get_running_loop(), stop=stop)
            ready.set()

        await serve([prepared(engine, ServingTable()) for engine in engines], settings, on_ready, stop)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(20)
    yield {"http": f"http://{found['bound'].http}", "grpc": f"grpc://{found['bound'].grpc}", "unix": f"unix://{path}"}
    found["loop"].call_soon_threadsafe(found["stop"].requested.set)
    thread.join()
    for engine in engines:
        engine.close()


WAYS = [("http", None), ("grpc", None), ("unix", None), ("unix", "grpc")]


@pytest.fixture(params=[Client, BlockingAsyncClient], ids=["blocking", "asyncio"])
def client_class(request):
    return request.param


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(filter(None, way)))
def client(request, server, client_class):
    place, protocol = request.param
    with client_class(server[place], protocol=protocol, timeout_s=20) as made:
        yield made


def test_every_data_type_goes_there_and_back(client):
    rng = np.random.default_rng(0)
    feeds = {f"in_{d.value}": rng.integers(0, 2, (2, 3)).astype(d.numpy) for d in PLAIN}
    outputs = client.infer("types", feeds)
    assert set(outputs) == {f"out_{d.value}" for d in PLAIN}
    for dtype in PLAIN:
        found = outputs[f"out_{dtype.value}"]
        np.testing.assert_array_equal(found, feeds[f"in_{dtype.value}"])
        assert found.dtype == dtype.numpy


def test_only_the_outputs_asked_for_come_back(client):
    feeds = {f"in_{d.value}": np.ones((2, 3), d.numpy) for d in PLAIN}
    assert list(client.infer("types", feeds, ["out_INT8", "out_FP16"])) == ["out_INT8", "out_FP16"]


def test_strings_go_there_and_back_as_bytes(client):
    numbers = np.ones((2, 2), np.int8)
    for length in (5000, 5000, 1, 0):
        text = np.array([["a", "é\0"], ["", "z" * length]], object)
        found = client.infer("strings", {"in_BYTES": text, "in_INT8": numbers})["out_BYTES"]
        assert found.tolist() == [[each.encode() for each in row] for row in text.tolist()]
        assert (found.dtype, found.shape) == (np.dtype(object), (2, 2))


def test_a_string_that_is_not_utf8_is_the_callers_mistake(client):
    feeds = {"in_BYTES": np.array([[b"a", b"\xff"]]), "in_INT8": np.ones((1, 2), np.int8)}
    with pytest.raises(RemoteError, match="input 'in_BYTES': element 1 of 2: expected UTF-8") as caught:
        client.infer("strings", feeds)
    assert caught.value.status in (400, "INVALID_ARGUMENT")


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this onnxruntime can't be given BF16")
def test_bfloat16_goes_there_and_comes_back_as_floats(client):
    values = np.array([[1, -2.5], [np.inf, 2**-130]], np.float32)
    found = client.infer("halves", {"in_BF16": bfloat16_from_float32(values)})["out_BF16"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.float32


def test_scalars_and_odd_memory_go_there_and_back(client):
    assert client.infer("scalar", {"in_FP32": np.array(2.5, np.float32)})["out_FP32"].tolist() == 2.5
    value = np.arange(16.0).reshape(8, 2)[::-2].astype(">f4")
    np.testing.assert_array_equal(client.infer("batched", {"in_FP32": value})["out_FP32"], value)


def test_nan_and_infinity_go_there_and_back(client):
    value = np.array([[np.nan, np.inf]], np.float32)
    np.testing.assert_array_equal(client.infer("batched", {"in_FP32": value})["out_FP32"], value)


def test_twelve_mebibytes_go_there_and_back(client):
    value = np.random.default_rng(0).standard_normal((3, 1024, 1024)).astype(np.float32)
    np.testing.assert_array_equal(client.infer("large", {"in_FP32": value})["out_FP32"], value)


def test_health_and_metadata(client):
    assert (client.is_live(), client.is_ready(), client.is_ready("batched"), client.is_ready("none")) == (1, 1, 1, 0)
    assert {"name", "version", "extensions"} <= set(client.metadata())
    found = client.metadata("batched")
    assert found["inputs"] == [{"name": "in_FP32", "datatype": "FP32", "shape": [-1, 2]}]
    assert found["versions"] == ["1"]


@pytest.mark.parametrize(
    ("model", "feeds", "statuses"),
    [
        ("none", {"in_FP32": np.zeros((1, 2), np.float32)}, (404, "NOT_FOUND")),
        ("batched", {"wrong": np.zeros((1, 2), np.float32)}, (400, "INVALID_ARGUMENT")),
        ("batched", {"in_FP32": np.zeros((1, 2))}, (400, "INVALID_ARGUMENT")),
        ("batched", {"in_FP32": np.zeros((9, 2), np.float32)}, (400, "INVALID_ARGUMENT")),
        ("batched", {}, (400, "INVALID_ARGUMENT")),
    ],
)
def test_the_servers_refusals_keep_their_status(client, model, feeds, statuses):
    with pytest.raises(RemoteError) as caught:
        client.infer(model, feeds)
    assert caught.value.status in statuses
    assert client.is_live()


def test_an_unknown_version_is_refused(client):
    with pytest.raises(RemoteError):
        client.infer("batched", {"in_FP32": np.zeros((1, 2), np.float32)}, version="7")


def test_threads_get_their_own_answers(client):
    def call(i):
        return client.infer("batched", {"in_FP32": np.full((1, 2), i, np.float32)})["out_FP32"][0, 0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(100))) == list(range(100))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_is_benchmarked_over_both_protocols(server, protocol):
    with Client(server[protocol]) as client:
        report = bench_server(client, "batched", BenchSettings(n=100, warm_up=4, batch=4, concurrency=2))
        with pytest.raises(ConfigError, match="no batch axis"):
            bench_server(client, "types", BenchSettings(batch=2))
    assert (report.latency.n, report.samples_per_call, report.target["url"]) == (100, 4, server[protocol])
    assert report.target["platform"] == "onnxruntime_onnx"


def test_a_deadline_that_can_be_kept_is_kept_and_one_that_cannot_is_refused(client):
    value = np.zeros((3, 1024, 1024), np.float32)
    assert set(client.infer("large", {"in_FP32": value}, deadline_ms=20_000, priority=1)) == {"out_FP32"}
    with pytest.raises(ServerUnavailableError) as caught:
        client.infer("large", {"in_FP32": value}, deadline_ms=0.01)
    assert "Deadline" in type(caught.value).__name__
    assert client.is_live()


def test_frames_are_shared_with_the_real_server(server):
    with Client(server["unix"], timeout_s=20) as client, client.frames("batched", {"in_FP32": (4, 2)}, 3) as frames:
        for number, frame in enumerate(frames):
            frame.inputs["in_FP32"].fill(number)
            frame.start(deadline_ms=20_000)
        for number, frame in enumerate(frames):
            assert (frame.wait()["out_FP32"] == number).all()
        with pytest.raises(RemoteError, match="INVALID_ARGUMENT"):
            client.frames("batched", {"in_FP32": (9, 2)})


def test_a_stream_goes_through_the_real_server(server):
    with Client(server["unix"], timeout_s=20) as client, client.stream("batched", in_flight=3) as stream:
        seen = []
        for number in range(50):
            stream.put({"in_FP32": np.full((1, 2), number, np.float32)})
            seen += stream.ready()
        stream.end()
        seen += stream
    assert [(result.sequence, result.outputs["out_FP32"][0, 0]) for result in seen] == [(i, i) for i in range(50)]
