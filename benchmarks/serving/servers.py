"""The servers that are compared, and how each is started on loopback with the same nets."""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from serving.nets import Net
from serving.places import BENCH, ENGINES, MLSERVER, PARTS, TRITON, TRITON_BACKENDS, TRITON_LABEL
from serving.processes import Tree, last_words, output_of, started
from serving.setup_peers import triton_binary, triton_libraries, why_not_set_up
from serving.ways import CLIENT_HTTP, CLIENT_SHM, GRPC, HTTP, UNIX, UnavailableError

PEERS = PARTS / "peers"
_READY_S = 60.0


@dataclass(frozen=True)
class Running:
    """A server that was started: its processes, its address on each way, and why others have none."""

    tree: Tree
    addresses: Dict[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One contestant. `start` gives it running, or raises `UnavailableError`.

    A `floor` isn't a product to choose instead: it shows what a part costs. `concurrencies` are measured.
    """

    name: str
    label: str
    ways: Tuple[str, ...]
    start: Callable[[Sequence[Net], Path], contextlib.AbstractContextManager[Running]]
    concurrencies: Tuple[int, ...] = (1, 16)
    is_floor: bool = False
    is_engineless: bool = False  # answers anything by nothing


@contextlib.contextmanager
def ours(nets: Sequence[Net], folder: Path) -> Iterator[Running]:
    """`edge-runtime serve` as it comes, plus addresses."""
    program = own_program()
    path = str(folder / "edge.sock")
    has_unix = "--unix" in output_of([program, "serve", "--help"], "ours-help", _READY_S)
    command = [program, "serve", *(net.name for net in nets), "--engines", str(ENGINES), "--json", "--allow-client-shm"]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *(["--unix", path] if has_unix else [])]
    with started(command, "ours", stdout=subprocess.PIPE) as tree:
        ready = ready_line(tree)
        addresses = {HTTP: ready["http"], GRPC: ready["grpc"], **({UNIX: path} if has_unix else {})}
        missing = {} if has_unix else {UNIX: "edge-runtime serve has no --unix"}
        yield Running(tree, addresses, missing)


def own_program() -> str:
    """`edge-runtime` of this environment."""
    return str(Path(sys.executable).with_name("edge-runtime"))


def ready_line(tree: Tree) -> Dict[str, str]:
    """What our server prints when it is ready.

    Raises:
        RuntimeError: it ended, or said nothing in time.
    """
    stream = tree.process.stdout
    assert stream is not None
    if not select.select([stream], [], [], _READY_S)[0]:
        raise RuntimeError(f"edge-runtime serve: not ready after {_READY_S:.0f} s")
    line = stream.readline()
    if not line:
        raise RuntimeError(f"edge-runtime serve: it ended before it was ready: {last_words('ours')}")
    ready: Dict[str, str] = json.loads(line)
    return ready


def build(nets: Sequence[Net]) -> None:
    """Our plans of the nets, in float, unless nothing changed.

    Raises:
        RuntimeError: a build failed.
    """
    for net in nets:
        command = [own_program(), "build", str(net.model), "--name", net.name, "--precision", "fp32", "--json"]
        command += ["--engines", str(ENGINES), "--calib-cache", str(BENCH / "calib_cache")]
        output_of(command + (["--shape", net.shape_flag] if net.has_dynamic_sizes else []), f"build-{net.name}", 600)


def triton(instances: int) -> Callable[[Sequence[Net], Path], contextlib.AbstractContextManager[Running]]:
    """The tritonserver of PyTriton's wheel, alone, with so many instances of each model."""

    @contextlib.contextmanager
    def start(nets: Sequence[Net], folder: Path) -> Iterator[Running]:
        need_set_up("triton")
        for net in nets:
            write_triton_model(net, folder / "models" / net.name, instances)
        http, grpc = free_ports(2)
        prefix = f"edge_bench_{http}_"
        command = [triton_binary(), f"--model-repository={folder / 'models'}", f"--backend-directory={TRITON_BACKENDS}"]
        command += ["--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1"]
        command += [f"--grpc-port={grpc}", "--allow-metrics=false", "--exit-timeout-secs=5"]
        command += [f"--backend-config=python,shm-region-prefix-name={prefix}"]
        env = {"PATH": f"{TRITON / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "LD_LIBRARY_PATH": triton_libraries()}
        try:
            with started(command, f"triton-{instances}", env) as tree:
                yield Running(tree, loopback({HTTP: http, GRPC: grpc}))
        finally:
            for region in Path("/dev/shm").glob(f"{prefix}*"):
                region.unlink()

    return start


def write_triton_model(net: Net, folder: Path, instances: int) -> None:
    """A model's folder in Triton's repository."""
    (folder / "1").mkdir(parents=True)
    shutil.copy(PEERS / "triton_model.py", folder / "1" / "model.py")
    sizes = ", ".join(map(str, (-1, *net.input_shape[1:])))
    wanted = ", ".join(["-1"] * net.output_rank)
    (folder / "config.pbtxt").write_text(
        f'backend: "python"\nmax_batch_size: 0\n'
        f'input [{{ name: "{net.input_name}" data_type: TYPE_FP32 dims: [{sizes}] }}]\n'
        f'output [{{ name: "{net.output_name}" data_type: TYPE_FP32 dims: [{wanted}] }}]\n'
        f"instance_group [{{ count: {instances} kind: KIND_CPU }}]\n"
        f'parameters {{ key: "onnx" value: {{ string_value: "{net.model}" }} }}\n'
    )


@contextlib.contextmanager
def mlserver(nets: Sequence[Net], folder: Path) -> Iterator[Running]:
    """MLServer with a custom runtime in its own process."""
    need_set_up("mlserver")
    http, grpc, metrics = free_ports(3)
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics, "debug": False}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}))
    for net in nets:
        (folder / net.name).mkdir()
        model = {
            "name": net.name,
            "implementation": "mlserver_runtime.OnnxRuntime",
            "parameters": {"uri": str(net.model)},
        }
        (folder / net.name / "model-settings.json").write_text(json.dumps(model))
    env = {"PATH": f"{MLSERVER / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(PEERS)}
    with started([str(MLSERVER / "bin" / "mlserver"), "start", str(folder)], "mlserver", env) as tree:
        yield Running(tree, loopback({GRPC: grpc}))


@contextlib.contextmanager
def grpc_inline(nets: Sequence[Net], folder: Path) -> Iterator[Running]:
    """grpc.aio with the engine on its loop."""
    del folder
    (port,) = free_ports(1)
    models = [f"{net.name}={net.model}" for net in nets]
    with started([sys.executable, str(PEERS / "grpc_inline.py"), str(port), *models], "grpc-inline") as tree:
        yield Running(tree, loopback({GRPC: port}))


@contextlib.contextmanager
def echo(nets: Sequence[Net], folder: Path) -> Iterator[Running]:
    """A responder in C, compiled here."""
    del nets
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise UnavailableError("no C compiler (cc); on Debian: apt-get install gcc libc6-dev")
    output_of([compiler, "-O2", "-o", str(folder / "echo"), str(PEERS / "echo.c")], "echo-compile", _READY_S)
    (port,) = free_ports(1)
    with started([str(folder / "echo"), str(port)], "echo") as tree:
        yield Running(tree, loopback({HTTP: port}))


SERVERS = {
    server.name: server
    for server in (
        Server("ours", "edge-runtime", (HTTP, GRPC, UNIX, CLIENT_HTTP, CLIENT_SHM), ours),
        Server("triton", f"{TRITON_LABEL}, 1 instance", (HTTP, GRPC), triton(1)),
        Server("triton2", f"{TRITON_LABEL}, 2 instances", (HTTP, GRPC), triton(2), concurrencies=(16,)),
        Server("mlserver", "MLServer 1.7.1", (GRPC,), mlserver),
        Server("grpc-inline", "grpc.aio, engine on the loop", (GRPC,), grpc_inline, is_floor=True),
        Server("echo", "responder in C, no engine", (HTTP,), echo, is_floor=True, is_engineless=True),
    )
}


@contextlib.contextmanager
def running(server: Server, nets: Sequence[Net]) -> Iterator[Running]:
    """The server with a folder of its own, which goes when it has ended."""
    with tempfile.TemporaryDirectory(prefix="serving-") as folder, server.start(nets, Path(folder)) as it:
        yield it


def need_set_up(peer: str) -> None:
    """Raises `UnavailableError` where a peer isn't there."""
    reason = why_not_set_up(peer)
    if reason is not None:
        raise UnavailableError(reason)


def free_ports(count: int) -> List[int]:
    """Ports of loopback that nobody holds now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def loopback(ports: Mapping[str, int]) -> Dict[str, str]:
    """Addresses by way."""
    return {way: f"127.0.0.1:{port}" for way, port in ports.items()}
