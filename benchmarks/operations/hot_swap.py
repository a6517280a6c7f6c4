"""Versions take each other's place under load, over HTTP, gRPC and a Unix socket: what that costs, and whom.

A server of its own follows a store with two versions of a model that answer differently. Clients ask it all the time,
and each answer must be, bit for bit, that of the version that it names. Rounds without and with swaps alternate, so
that what else the machine does strikes both; the ratio is of their p99, the median of the rounds. Clients share the
cores with the server.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
from robustness.rows import BESIDE, Row, verdict_of
from serving.places import own_environment
from serving.processes import output_of, started
from serving.servers import own_program, ready_line

from edge_runtime.plan.store import PlanStore
from operations.places import FOLDER

MODEL, WIDTH, DEPTH = "swapped", 128, 12
VERSIONS = (1, 2)
_ROUNDS, _SWAPS_A_ROUND = 5, 8
_LEAST_SWAPS = _ROUNDS * _SWAPS_A_ROUND
_BUILD_S, _SWAP_S, _CLIENT_S = 120.0, 60.0, 60.0

Answer = Tuple[str, bytes]
Ask = Callable[[], Answer]


@dataclass
class Phase:
    """Latencies of requests, and those that failed, with or without swaps meanwhile."""

    latencies_ms: List[float] = field(default_factory=list)
    failed: List[str] = field(default_factory=list)

    def percentile(self, level: float) -> float:
        """In ms."""
        return float(np.percentile(self.latencies_ms, level))


@dataclass(frozen=True)
class Figures:
    """What was measured; latencies in ms, `swap_s` from the store's change to the new version's first answer."""

    requests: int
    failed: int
    swaps: int
    swap_median_s: float
    swap_longest_s: float
    steady_n: int
    steady_p50_ms: float
    steady_p99_ms: float
    swapping_n: int
    swapping_p50_ms: float
    swapping_p99_ms: float
    p99_ratio: float
    first_failure: str = ""


def measure(requests: int, rounds: int) -> Figures:
    """So many requests with swaps under way, and about as many without.

    Raises:
        RuntimeError: a build or the server failed.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        engines = Path(folder) / "engines"
        build(Path(folder), engines)
        with serving(engines, Path(folder) / "socket") as ready:
            return _measured(PlanStore(engines), ready, requests, rounds)


def build(folder: Path, engines: Path) -> None:
    """Two versions of a model, by the product's own build."""
    for version in VERSIONS:
        path = folder / f"{version}.onnx"
        path.write_bytes(_onnx(version))
        command = [own_program(), "build", str(path), "--name", MODEL, "--precision", "fp32", "--json"]
        command += ["--engines", str(engines), "--calib-cache", str(folder / "calib_cache")]
        output_of(command, f"build-{MODEL}", _BUILD_S, own_environment())


def _onnx(version: int) -> bytes:
    """Layers of random weights, and at their end the version as a factor."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    rng = np.random.default_rng(0)
    weights, nodes, last = [], [], "x"
    for layer in range(DEPTH):
        weights.append(
            numpy_helper.from_array((rng.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32), f"w{layer}")
        )
        nodes += [helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"])]
        nodes += [helper.make_node("Tanh", [f"m{layer}"], [f"t{layer}"])]
        last = f"t{layer}"
    weights.append(numpy_helper.from_array(np.array([version], np.float32), "factor"))
    nodes.append(helper.make_node("Mul", [last, "factor"], ["y"]))
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", WIDTH]) for end in "xy"]
    graph = helper.make_graph(nodes, MODEL, ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def serving(engines: Path, path: Path) -> Iterator[Dict[str, str]]:
    """A server that follows the store, and its addresses."""
    command = [own_program(), "serve", "--engines", str(engines), "--follow", "--json", "--unix", str(path)]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    environment = {**own_environment(), "EDGE_RUNTIME_SERVER__FOLLOW_INTERVAL_S": "0.05"}
    with started(command, "hot-swap", environment, stdout=subprocess.PIPE) as tree:
        yield ready_line(tree)


def _measured(store: PlanStore, ready: Dict[str, str], requests: int, rounds: int) -> Figures:
    steady = [Phase() for _ in range(rounds)]
    swapping = [Phase() for _ in range(rounds)]
    swaps_s: List[float] = []
    with clients(ready) as asks:
        expected = {str(version): _reference(store, version, asks[0]) for version in VERSIONS}
        for calm, busy in zip(steady, swapping):
            swaps_s += _round(store, asks, expected, requests // rounds, calm, busy)
    failed = [each for phase in (*steady, *swapping) for each in phase.failed]
    all_steady = Phase([ms for phase in steady for ms in phase.latencies_ms])
    all_swapping = Phase([ms for phase in swapping for ms in phase.latencies_ms])
    ratios = [busy.percentile(99) / calm.percentile(99) for calm, busy in zip(steady, swapping)]
    return Figures(
        requests=len(all_steady.latencies_ms) + len(all_swapping.latencies_ms) + len(failed),
        failed=len(failed),
        swaps=len(swaps_s),
        swap_median_s=round(statistics.median(swaps_s), 3),
        swap_longest_s=round(max(swaps_s), 3),
        steady_n=len(all_steady.latencies_ms),
        steady_p50_ms=round(all_steady.percentile(50), 3),
        steady_p99_ms=round(all_steady.percentile(99), 3),
        swapping_n=len(all_swapping.latencies_ms),
        swapping_p50_ms=round(all_swapping.percentile(50), 3),
        swapping_p99_ms=round(all_swapping.percentile(99), 3),
        p99_ratio=round(statistics.median(ratios), 2),
        first_failure=failed[0] if failed else "",
    )


def _round(
    store: PlanStore, asks: List[Ask], expected: Dict[str, bytes], requests: int, calm: Phase, busy: Phase
) -> List[float]:
    """Requests without swaps, then as many or more with one after another; how long each swap took."""
    load = _Load(asks, expected, calm, requests)
    load.ends.set()
    load.join()
    swaps_s = []
    load = _Load(asks, expected, busy, requests)
    while load.has_more or len(swaps_s) < _SWAPS_A_ROUND:
        version = VERSIONS[1] if store.served(MODEL) == VERSIONS[0] else VERSIONS[0]
        swaps_s.append(_swap(store, version, asks[-1]))
    load.ends.set()
    load.join()
    return swaps_s


def _swap(store: PlanStore, version: int, ask: Ask) -> float:
    """How long it took until a version that the store serves answered."""
    begun_s = time.monotonic()
    store.serve(MODEL, version)
    while ask()[0] != str(version):
        if time.monotonic() - begun_s > _SWAP_S:
            raise RuntimeError(f"version {version} doesn't answer {_SWAP_S:.0f} s after the store serves it")
        time.sleep(0.005)
    return time.monotonic() - begun_s


def _reference(store: PlanStore, version: int, ask: Ask) -> bytes:
    """What a version answers when nothing else goes on."""
    _swap(store, version, ask)
    return ask()[1]


class _Load:
    """Clients that ask until so many requests were begun and it `ends`."""

    def __init__(self, asks: List[Ask], expected: Dict[str, bytes], phase: Phase, requests: int) -> None:
        self.ends = threading.Event()
        self._left = requests
        self._expected = expected
        self._phase = phase
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(ask,)) for ask in asks[:-1]]
        for thread in self._threads:
            thread.start()

    @property
    def has_more(self) -> bool:
        return self._left > 0

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, ask: Ask) -> None:
        while self._takes_one():
            begun_s = time.perf_counter()
            problem = self._problem(ask)
            duration_ms = (time.perf_counter() - begun_s) * 1e3
            with self._lock:
                if problem:
                    self._phase.failed.append(problem)
                else:
                    self._phase.latencies_ms.append(duration_ms)

    def _takes_one(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0 or not self.ends.is_set()

    def _problem(self, ask: Ask) -> str:
        try:
            version, answer = ask()
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        return "" if self._expected.get(version) == answer else f"the answer isn't that of version {version}"


@contextlib.contextmanager
def clients(ready: Dict[str, str]) -> Iterator[List[Ask]]:
    """Two clients of each transport, and one to watch the swaps by."""
    with contextlib.ExitStack() as stack:
        found: List[Ask] = []
        for _ in range(2):
            tcp, unix = http.client.HTTPConnection(ready["http"], timeout=_CLIENT_S), _UnixConnection(ready["unix"])
            found += [_http_ask(stack.enter_context(contextlib.closing(each))) for each in (tcp, unix)]
            found.append(_grpc_ask(ready["grpc"], stack))
        watcher = http.client.HTTPConnection(ready["http"], timeout=_CLIENT_S)
        found.append(_http_ask(stack.enter_context(contextlib.closing(watcher))))
        yield found


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CLIENT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _http_ask(connection: http.client.HTTPConnection) -> Ask:
    row = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "parameters": {"binary_data_size": row.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}

    def ask() -> Answer:
        connection.request("POST", f"/v2/models/{MODEL}/infer", head + row.tobytes(), headers)
        reply = connection.getresponse()
        body = reply.read()
        if reply.status != http.client.OK:
            raise RuntimeError(f"status {reply.status}: {body[:200]!r}")
        length = int(reply.headers["Inference-Header-Content-Length"])
        return json.loads(body[:length])["model_version"], body[length:]

    return ask


def _grpc_ask(address: str, stack: contextlib.ExitStack) -> Ask:
    import tritonclient.grpc as triton  # noqa: PLC0415
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415

    client = stack.enter_context(triton.InferenceServerClient(address))
    tensor = triton.InferInput("x", [1, WIDTH], "FP32")
    tensor.set_data_from_numpy(np.linspace(-1, 1, WIDTH, dtype=np.float32)[None])

    def ask() -> Answer:
        try:
            found: Any = client.infer(MODEL, [tensor])
        except InferenceServerException as error:
            raise RuntimeError(str(error)) from None
        return found.get_response().model_version, found.as_numpy("y").tobytes()

    return ask


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Whether any request failed, and what swaps cost the others."""
    found = measure(options.requests, _ROUNDS)
    (FOLDER / "hot_swap.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
    text = (
        f"{found.failed} failed of {found.requests:,}, {found.swaps} swaps in {found.swap_median_s:.2f} s each "
        f"(longest {found.swap_longest_s:.2f})"
    )
    if found.first_failure:
        text += f"; first: {found.first_failure}"
    is_held = not found.failed and found.swaps >= _LEAST_SWAPS
    yield Row(
        "23 hot swap", f"0 failed of 10,000, {_LEAST_SWAPS} swaps or more", text, found.requests, verdict_of(is_held)
    )
    cost = (
        f"p50 {found.swapping_p50_ms:.2f} ms, p99 {found.swapping_p99_ms:.2f} ms; without "
        f"{found.steady_p50_ms:.2f}, {found.steady_p99_ms:.2f}; p99 with / without {found.p99_ratio:.2f}"
    )
    yield Row("23 latency while versions are swapped", "-", cost, found.swapping_n, BESIDE)
