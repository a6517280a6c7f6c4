"""Servers on free loopback ports, over engines of tiny models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from typing import Any, Callable, Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.server.lifecycle import Bound, Stop, serve
from edge_runtime.server.settings import ServerSettings
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

ONNX_TYPES = {
    DType.FP32: TensorProto.FLOAT,
    DType.INT64: TensorProto.INT64,
    DType.FP16: TensorProto.FLOAT16,
    DType.BOOL: TensorProto.BOOL,
}


def engine(name: str, nodes: list, inputs: dict[str, tuple], outputs: dict[str, tuple], slots: int = 2) -> Engine:
    """An engine of these nodes; inputs and outputs are (type, shape), a dynamic dimension a string, at most 8."""

    def value(tensor: str, dtype: DType, shape: tuple) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(tensor, ONNX_TYPES[dtype], shape)

    def spec(tensor: str, dtype: DType, shape: tuple) -> TensorSpec:
        return TensorSpec(tensor, dtype, tuple(-1 if isinstance(size, str) else size for size in shape))

    graph = helper.make_graph(
        nodes, name, [value(n, *d) for n, d in inputs.items()], [value(n, *d) for n, d in outputs.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    ranges = {
        tensor: ShapeRange(
            tuple(1 if isinstance(size, str) else size for size in shape),
            tuple(1 if isinstance(size, str) else size for size in shape),
            tuple(8 if isinstance(size, str) else size for size in shape),
        )
        for tensor, (_, shape) in inputs.items()
    }
    signature = Signature(
        tuple(spec(n, *d) for n, d in inputs.items()), tuple(spec(n, *d) for n, d in outputs.items()), ranges
    )
    info = EngineInfo(name, 3, "onnxruntime 1", "onnxruntime_onnx", "fp32", "cpu")
    return engine_from_bytes(model.SerializeToString(), info, signature, EngineOptions(slots=slots, threads_per_run=1))


def identity(name: str, dtype: DType, shape: tuple, slots: int = 2) -> Engine:
    return engine(
        name, [helper.make_node("Identity", ["x"], ["y"])], {"x": (dtype, shape)}, {"y": (dtype, shape)}, slots
    )


def tiny_engines() -> list[Engine]:
    """`identity` f32[batch, 16], `integers` i64[batch, 4], `half` f16[batch, 4], `truth` bool[batch, 4],
    `pair` (a + b, a - b), `fixed` f32[2, 3] without a batch axis, `nonzero` with outputs that depend on the data."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    row = (DType.FP32, ("batch", 4))
    return [
        identity("identity", DType.FP32, ("batch", 16)),
        identity("integers", DType.INT64, ("batch", 4)),
        identity("half", DType.FP16, ("batch", 4)),
        identity("truth", DType.BOOL, ("batch", 4)),
        engine("pair", nodes, {"a": row, "b": row}, {"sum": row, "difference": row}),
        identity("fixed", DType.FP32, (2, 3)),
        engine(
            "nonzero",
            [helper.make_node("NonZero", ["x"], ["y"])],
            {"x": (DType.FP32, (8,))},
            {"y": (DType.INT64, (1, "found"))},
        ),
    ]


@dataclass
class Reply:
    """An HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running server, and raw ways to talk to it."""

    def __init__(self, bound: Bound, stop: Callable[[], None], thread: threading.Thread) -> None:
        self.bound = bound
        self.stop = stop
        self.thread = thread

    def connection(self, timeout_s: float = 30.0) -> socket.socket:
        host, port = self.bound.http.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout_s)

    def exchange(self, data: bytes, count: int = 1) -> list[Reply]:
        """The answers to raw bytes, up to `count`; fewer if the server closes the connection before."""
        with self.connection() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return list(replies(connection, count))

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        lines = {"Host": "x", "Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
        return self.exchange(head.encode("latin-1") + body)[0]

    def infer(self, model: str, head: Any, tail: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        length = {"Inference-Header-Content-Length": str(len(text))}
        return self.ask("POST", f"/v2/models/{model}/infer", text + tail, {**length, **(headers or {})})


def replies(connection: socket.socket, count: int) -> Iterator[Reply]:
    with connection.makefile("rb") as file:
        for _ in range(count):
            try:
                line = file.readline()
            except ConnectionError:
                return
            if not line:
                return
            headers = {}
            for header in iter(lambda: file.readline().strip(), b""):
                key, _, value = header.decode("latin-1").partition(": ")
                headers[key.lower()] = value
            yield Reply(int(line.split()[1]), headers, file.read(int(headers.get("content-length", 0))))


@contextlib.contextmanager
def running(engines: list[Engine], **settings: Any) -> Iterator[Server]:
    """A server in a thread of its own; at the end it is stopped and its engines are closed."""
    ready = threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), Stop(asyncio.Event(), asyncio.Event())
        found["stop"] = lambda: loop.call_soon_threadsafe(stop.signalled)

        def on_ready(bound: Bound) -> None:
            found["bound"] = bound
            ready.set()

        chosen = ServerSettings(**{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", **settings})
        found["is_clean"] = await serve(engines, chosen, on_ready, stop)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="server")
    thread.start()
    try:
        assert ready.wait(30)
        yield Server(found["bound"], found["stop"], thread)
    finally:
        with contextlib.suppress(RuntimeError):
            found["stop"]()
        thread.join(30)
        for each in engines:
            each.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server with all the tiny models, for tests that leave it as it was."""
    with running(tiny_engines()) as each:
        yield each


def binary_head(nbytes: int, **changes: Any) -> dict[str, Any]:
    """The head of a binary request to `identity`, one row."""
    item = {"name": "x", "datatype": "FP32", "shape": [1, 16], "parameters": {"binary_data_size": nbytes}, **changes}
    return {"inputs": [item], "parameters": {"binary_data_output": True}}


ROW = np.arange(16, dtype=np.float32).tobytes()
