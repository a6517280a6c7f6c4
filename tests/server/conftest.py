"""Servers on free loopback ports, over engines of tiny models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterator

import numpy as np
import onnx
import pytest
from fakes.dtypes import PLAIN, onnx_type
from fakes.versioned_plans import VersionedPlans
from onnx import helper, numpy_helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.errors import EdgeRuntimeError, PlanNotFoundError
from edge_runtime.plan.serving import ServingTable
from edge_runtime.server.accelerators import Prepared, prepared
from edge_runtime.server.keeping import Keeping, Refusal
from edge_runtime.server.lifecycle import Control, Stop, serve
from edge_runtime.server.listeners import Bound
from edge_runtime.server.loads import Loads, Stamp
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.warm_up import Measured, RunTime
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

Tensors = "dict[str, tuple[DType, tuple]]"


def signature_of(inputs: Tensors, outputs: Tensors) -> Signature:
    """Of tensors given as (type, shape); a dynamic dimension is a string, and 1 to 8 long."""

    def specs(tensors: Tensors) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                name,
                dtype,
                tuple(-1 if isinstance(size, str) else size for size in shape),
                tuple(size if isinstance(size, str) else "" for size in shape),
            )
            for name, (dtype, shape) in tensors.items()
        )

    def limit(shape: tuple, longest: int) -> tuple:
        return tuple(longest if isinstance(size, str) else size for size in shape)

    ranges = {
        name: ShapeRange(limit(shape, 1), limit(shape, 1), limit(shape, 8)) for name, (_, shape) in inputs.items()
    }
    return Signature(specs(inputs), specs(outputs), ranges)


def info(name: str) -> EngineInfo:
    return EngineInfo(name, 3, "onnxruntime 1.0", "onnxruntime_onnx", "fp32", "cpu")


def onnx_engine(name: str, nodes: list, inputs: Tensors, outputs: Tensors) -> Engine:
    def values(tensors: Tensors) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(tensor, onnx_type(dtype), shape) for tensor, (dtype, shape) in tensors.items()
        ]

    graph = helper.make_graph(nodes, name, values(inputs), values(outputs))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = EngineOptions(slots=2, threads_per_run=1)
    return engine_from_bytes(model.SerializeToString(), info(name), signature_of(inputs, outputs), options)


def node(operator: str, inputs: str, outputs: str) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split())


ROW = (DType.FP32, ("batch", 4))
BYTES = (DType.UINT8, ("batch", 4))
TYPES = {dtype.value: (dtype, (2, 3)) for dtype in PLAIN}
MODELS: dict[str, tuple] = {
    "identity": ([node("Identity", "x", "y")], {"x": ROW}, {"y": ROW}),
    "pair": (
        [node("Add", "a b", "sum"), node("Sub", "a b", "difference")],
        {"a": ROW, "b": ROW},
        {"sum": ROW, "difference": ROW},
    ),
    "fixed": ([node("Identity", "x", "y")], {"x": (DType.FP32, (2, 3))}, {"y": (DType.FP32, (2, 3))}),
    "canvas": (
        [node("Identity", "x", "y")],
        {"x": (DType.FP32, ("batch", "height", "width", 2))},
        {"y": (DType.FP32, ("batch", "height", "width", 2))},
    ),
    "scalar": ([node("Neg", "x", "y")], {"x": (DType.FP32, ())}, {"y": (DType.FP32, ())}),
    "types": (
        [node("Identity", name, f"{name}_out") for name in TYPES],
        TYPES,
        {f"{name}_out": tensor for name, tensor in TYPES.items()},
    ),
    "root": ([node("Sqrt", "x", "y")], {"x": ROW}, {"y": ROW}),
    "rows": ([node("Identity", "x", "y")], {"x": (DType.FP32, ("n",))}, {"y": (DType.FP32, ("n",))}),
    "nonzero": ([node("NonZero", "x", "y")], {"x": (DType.FP32, (8,))}, {"y": (DType.INT64, (1, "found"))}),
    "picky": (
        [node("Gather", "x at", "y")],
        {"x": (DType.FP32, (4,)), "at": (DType.INT64, (1,))},
        {"y": (DType.FP32, (1,))},
    ),
    "sum": (
        [node("ReduceSum", "x", "y")],
        {"x": (DType.FP32, (1 << 18,))},
        {"y": (DType.FP32, (1,))},
    ),
    "words": (
        [
            node("Identity", "text", "echo"),
            helper.make_node(
                "LabelEncoder",
                ["id"],
                ["word"],
                domain="ai.onnx.ml",
                keys_int64s=[1, 2],
                values_strings=["one", "zwé"],
                default_string="?",
            ),
        ],
        {"text": (DType.BYTES, ("batch", 2)), "id": (DType.INT64, ("batch",))},
        {"echo": (DType.BYTES, ("batch", 2)), "word": (DType.BYTES, ("batch",))},
    ),
    "shares": (
        [node("ReduceSum", "x", "all"), node("Sub", "x all", "y")],
        {"x": (DType.FP32, ("batch",))},
        {"y": (DType.FP32, ("batch",))},
    ),
    "echo": ([node("Identity", "x", "y")], {"x": (DType.BYTES, ("n",))}, {"y": (DType.BYTES, ("n",))}),
    "halves": (
        [
            helper.make_node("Cast", ["x"], ["wide"], to=1),
            node("Add", "wide wide", "twice"),
            helper.make_node("Cast", ["twice"], ["y"], to=16),
        ],
        {"x": (DType.BF16, ("batch", 3))},
        {"y": (DType.BF16, ("batch", 3))},
    ),
    "large": ([node("Identity", "x", "y")], {"x": (DType.FP32, (1 << 17,))}, {"y": (DType.FP32, (1 << 17,))}),
}


class Source:
    """Plans that are engines made by functions, by the model's name; one that there is none for has no plan."""

    def __init__(self, **makers: Callable[[], Engine]) -> None:
        self.makers = makers
        self.made: list[Engine] = []

    def versions(self) -> dict[str, str]:
        return dict.fromkeys(self.makers, "3")

    def load(self, name: str, version: str) -> Prepared:
        if name not in self.makers:
            raise PlanNotFoundError(f"/srv/secret/{name}: no plan")
        engine = self.makers[name]()
        self.made.append(engine)
        if name == "gated":
            return Prepared(engine, Measured((), False))
        return prepared(engine, ServingTable())

    def served(self, name: str) -> str:
        return self.versions().get(name, "")

    def stamps(self) -> dict[str, Stamp]:
        return {name: Stamp(version) for name, version in self.versions().items()}

    def load_stand_in(self, name: str, version: str) -> Prepared:
        raise PlanNotFoundError(f"/srv/secret/{name}: no older version")

    def tidy(self) -> None:
        pass


class GatedEngine:
    """A made-up engine `gated`, x f32[batch, 4] -> y = x, each of whose runs waits for `release`."""

    def __init__(self, slots: int = 1) -> None:
        self.begun = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)
        self.runs = 0
        self.engine = Engine(info("gated"), signature_of({"x": ROW}, {"y": ROW}), lambda: self, slots)

    def release(self, runs: int = 1) -> None:
        for _ in range(runs):
            self._gate.release()

    def take_back(self) -> None:
        """Lets the next run wait, whatever was released before."""
        while self._gate.acquire(blocking=False):
            pass

    def bind(self, name: str, shape: tuple) -> np.ndarray:
        self._array = np.empty(shape, np.float32)
        return self._array

    def run(self) -> dict[str, np.ndarray]:
        self.runs += 1
        self.begun.release()
        assert self._gate.acquire(timeout=20)
        return {"y": self._array}

    def close(self) -> None:
        pass


class UnhurriedEngine:
    """A made-up engine `unhurried`, x f32[batch, 4] -> y = x, whose runs take 300 µs, and so are made in lanes."""

    def __init__(self, slots: int = 1) -> None:
        self.engine = Engine(info("unhurried"), signature_of({"x": ROW}, {"y": ROW}), _UnhurriedSlot, slots)


class _UnhurriedSlot:
    is_closed = False

    def bind(self, name: str, shape: tuple) -> np.ndarray:
        self._array = np.empty(shape, np.float32)
        return self._array

    def run(self) -> dict[str, np.ndarray]:
        assert not self.is_closed
        end = time.perf_counter() + 300e-6
        while time.perf_counter() < end:
            pass
        return {"y": self._array}

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Reply:
    """An HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server, and raw ways to talk to it."""

    bound: Bound
    signal: Callable[[], None]
    thread: threading.Thread
    outcome: list[bool]
    reload: Callable[[], None]
    is_over_unix: bool = False

    def connection(self, timeout_s: float = 20.0) -> socket.socket:
        if self.is_over_unix:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout_s)
            connection.connect(str(self.bound.unix))
            return connection
        host, port = self.bound.http.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout_s)

    def exchange(self, data: bytes, count: int = 1) -> list[Reply]:
        """The answers to raw bytes, up to `count`; fewer if the server closes the connection before."""
        with self.connection() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return list(replies(connection, count))

    @staticmethod
    def replies(connection: socket.socket, count: int) -> Iterator[Reply]:
        return replies(connection, count)

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        return self.exchange(message(method, path, body, {"Connection": "close", **(headers or {})}))[0]

    def infer(self, model: str, head: Any, tail: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        length = {"Inference-Header-Content-Length": str(len(text))}
        return self.ask("POST", f"/v2/models/{model}/infer", text + tail, {**length, **(headers or {})})

    def counts(self, model: str) -> tuple[int, int]:
        """How many inferences succeeded and failed."""
        found = self.ask("GET", f"/v2/models/{model}/stats").json["model_stats"][0]["inference_stats"]
        return found["success"]["count"], found["fail"]["count"]

    def failures(self, model: str) -> dict[str, int]:
        """How many failed, by reason, those without a failure left out."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        of_model = [line for line in lines if line.startswith(f'nv_inference_request_failure{{model="{model}"')]
        found = {line.split('reason="')[1].split('"')[0]: int(line.split()[-1]) for line in of_model}
        return {reason: count for reason, count in found.items() if count}


def message(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    lines = {"Host": "x", "Content-Length": str(len(body)), **(headers or {})}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items()) + "\r\n"
    return head.encode("latin-1") + body


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
def running(
    engines: list[Any],
    serving: dict[str, Any] | None = None,
    gated_ns: int = 0,
    control: Control | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """A server in a thread of its own; at the end it is stopped at once and its engines are closed.

    The engines may be prepared already.

    `gated_ns` is how long runs of the gated engine are said to take.
    """
    known = Measured((RunTime(0, 1, gated_ns, gated_ns),) if gated_ns else (), False)
    table = ServingTable(**(serving or {}))
    ready = threading.Event()
    found: dict[str, Any] = {}
    outcome: list[bool] = []

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), Stop(asyncio.Event(), asyncio.Event())
        found["signal"] = lambda: loop.call_soon_threadsafe(stop.signalled)

        async def reloaded() -> None:
            stop.reloaded.clear()
            stop.reload.set()
            await stop.reloaded.wait()

        found["reload"] = lambda: asyncio.run_coroutine_threadsafe(reloaded(), loop).result(20)

        def on_ready(bound: Bound) -> None:
            found["bound"] = bound
            ready.set()

        chosen = ServerSettings(**{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "board": "none", **settings})
        made = [
            each
            if isinstance(each, Prepared)
            else Prepared(each, known, table)
            if each.info.name == "gated"
            else prepared(each, table)
            for each in engines
        ]
        outcome.append(await serve(made, chosen, on_ready, stop, control or Control()))

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="server")
    thread.start()
    try:
        assert ready.wait(30)
        yield Server(found["bound"], found["signal"], thread, outcome, found["reload"])
    finally:
        for _ in range(2):
            with contextlib.suppress(RuntimeError):
                found["signal"]()
        thread.join(30)
        assert not thread.is_alive()
        if control is not None and control.loads is not None:
            control.loads.close()
        for each in engines:
            (each.engine if isinstance(each, Prepared) else each).close()


APART = ("halves",)  # not every ONNX Runtime has it
LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}


@pytest.fixture(
    scope="session",
    params=[pytest.param({}, id="own"), pytest.param(LIBRARIES, id="libraries", marks=pytest.mark.slow)],
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server with all the tiny models, for tests that leave it as it was; on our transports and on others'."""
    made = [onnx_engine(name, *parts) for name, parts in MODELS.items() if name not in APART]
    with running(made, **request.param) as started:
        yield started


@pytest.fixture(scope="session")
def serving() -> Callable[..., ContextManager[Server]]:
    """Starts a server of one's own: `with serving("identity", ..., queue_size=1) as server`; engines or their names."""

    def start(*engines: Any, **settings: Any) -> ContextManager[Server]:
        made = [onnx_engine(each, *MODELS[each]) if isinstance(each, str) else each for each in engines]
        return running(made, **settings)

    return start


@pytest.fixture(scope="session")
def tiny_engine() -> Callable[[str], Engine]:
    """`tiny_engine(name)`: the engine of one of the tiny models, for its user to close."""
    return lambda name: onnx_engine(name, *MODELS[name])


@pytest.fixture(scope="session")
def factor_engine() -> Callable[[str, float], Engine]:
    """`factor_engine(name, factor)`: x f32[batch, 4] -> y = factor * x, so that an answer tells who gave it."""

    def make(name: str, factor: float) -> Engine:
        value = numpy_helper.from_array(np.array(factor, np.float32))
        constant = helper.make_node("Constant", [], ["factor"], value=value)
        return onnx_engine(name, [constant, node("Mul", "x factor", "y")], {"x": ROW}, {"y": ROW})

    return make


@pytest.fixture
def unhurried() -> Engine:
    return UnhurriedEngine(slots=2).engine


@pytest.fixture
def gated() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """`logged()`: the lines so far, without those of grpc.aio about several servers in one process."""
    return lambda: [line for line in caplog.messages if "PollerCompletionQueue" not in line]


@pytest.fixture(scope="session")
def watch_rss() -> Callable[[], Callable[[], int]]:
    """`grown = watch_rss()`, then `grown()`: by how many bytes this process was larger at its peak since then."""

    def peak() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

    def watch() -> Callable[[], int]:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = peak()
        return lambda: peak() - before

    return watch


@pytest.fixture(scope="session")
def http_message() -> Callable[..., bytes]:
    """`http_message(method, path, body, headers)`: the bytes of a request."""
    return message


@pytest.fixture(scope="session")
def http_replies() -> Callable[..., Iterator[Reply]]:
    """`http_replies(connection, count)`: reads answers off a socket."""
    return replies


@pytest.fixture(scope="session")
def good_head() -> Callable[..., dict[str, Any]]:
    """The head of a binary request of one row to `identity`, with changes to its input."""

    def head(**changes: Any) -> dict[str, Any]:
        item = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}, **changes}
        return {"inputs": [{key: value for key, value in item.items() if value is not ...}]}

    return head


@pytest.fixture(scope="session")
def controlled() -> Callable[..., ContextManager[tuple[Server, Source]]]:
    """Starts a server that may load: `with controlled("identity", store={"pair": maker}) as (server, source)`.

    The store has the tiny models too that are named in `store` by a name only.
    """

    @contextlib.contextmanager
    def start(*engines: Any, store: Any = (), **settings: Any) -> Iterator[tuple[Server, Source]]:
        makers = (
            store if isinstance(store, dict) else {name: partial(onnx_engine, name, *MODELS[name]) for name in store}
        )
        source = Source(**makers)
        made = [onnx_engine(each, *MODELS[each]) if isinstance(each, str) else each for each in engines]
        with running(made, control=Control(Loads(source)), **settings) as server:
            yield server, source

    return start


@pytest.fixture(scope="session")
def kept() -> Callable[..., ContextManager[Server]]:
    """Starts a server that keeps models as a `VersionedPlans` has them, with those that load; `reload` has it look.

    What doesn't load is stood in for, if `is_staying_up`, and absent else. It looks by itself but once an hour.
    """

    @contextlib.contextmanager
    def start(
        source: VersionedPlans, settings: Any = (), configuration: Any = None, **keeping: Any
    ) -> Iterator[Server]:
        made, refused = [], {}
        for name, version in source.versions().items():
            try:
                made.append(source.load(name, version))
            except EdgeRuntimeError as error:
                refused[name] = Refusal(version, error)
        for name, (version, _) in refused.items() if keeping.get("is_staying_up") else ():
            with contextlib.suppress(EdgeRuntimeError):
                made.append(source.load_stand_in(name, version))
        chosen = Keeping(**{"names": None, "interval_s": 3600.0, "refused": refused, **keeping})
        control = Control(
            Loads(source, source.ledger), keeping=chosen, ledger=source.ledger, configuration=configuration
        )
        with running(made, control=control, **dict(settings)) as server:
            yield server

    return start


@pytest.fixture(scope="session")
def doubling() -> Callable[[], Engine]:
    """`doubling()`: an engine `identity` that gives twice what it is asked, for its user to close."""
    return partial(onnx_engine, "identity", [node("Add", "x x", "y")], {"x": ROW}, {"y": ROW})


@pytest.fixture(scope="session")
def unhurried_engine() -> Callable[[], Engine]:
    """`unhurried_engine()`: another engine `unhurried`, for its user to close."""
    return lambda: UnhurriedEngine(slots=2).engine
