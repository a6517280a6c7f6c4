"""1.2, 2.4: what went wrong in other servers, tried on ours."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import grpc
import numpy as np
import pytest
from fakes.region_clients import SharedObject, place, region_client
from tritonclient.grpc import service_pb2

ROW = np.array([[1, 2, 3, 4.5]], np.float32)
JSON = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
PATH = "/v2/models/identity/infer"


@pytest.fixture(scope="module", params=["own", "own-unix", "libraries", "libraries-unix"])
def sharing(request: pytest.FixtureRequest, carried: Any) -> Iterator[Any]:
    with carried(request.param, "identity", allow_client_shm=True) as started:
        yield started


@pytest.fixture(params=["http", "http kept", "grpc"])
def client(request: pytest.FixtureRequest, sharing: Any, http_message: Any) -> Iterator[Any]:
    with region_client(sharing, http_message, request.param) as made:
        yield made
        made.unregister()


def infer(client: Any, parameters: dict, wanted: dict) -> tuple[Any, Any]:
    found: tuple[Any, Any] = client.infer("identity", [("x", "FP32", [1, 4], parameters, None)], [("y", wanted)])
    return found


def test_1_2_leak_no_memory_of_ours_has_a_name_that_clients_could_register(sharing, http_message) -> None:
    before = named_memory()
    for _ in range(3):
        assert sharing.ask("POST", PATH, json.dumps(JSON).encode()).status == 200
    assert named_memory() <= before


def named_memory() -> set[str]:
    """Objects in /dev/shm that this process has open or mapped; other processes make and remove theirs meanwhile."""
    found = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(path))
    return {name for name in found if name.startswith("/dev/shm/")}


@pytest.mark.parametrize(
    ("nbytes", "offset"),
    [
        (4097, 0),
        (1, 4096),
        (2, 4095),
        (1 << 32, 0),
        (2**63, 0),
        (2**64 - 1, 1),
        (2**64 - 4096, 4096),
        (16, 2**63),
        (16, 2**64 - 16),
        (0, 0),
    ],
)
def test_1_2_region_arithmetic_neither_wraps_nor_reaches_past_the_object(client, nbytes, offset) -> None:
    with SharedObject(4096) as shared:
        code, text = client.register("r", shared.key, nbytes, offset)
        assert code in (400, "INVALID_ARGUMENT")
        assert "cannot open" in text


@pytest.mark.parametrize(("nbytes", "offset"), [(16, 4081), (16, 2**63 - 1), (2**63 - 1, 16), (2**63 - 1, 2**63 - 1)])
def test_1_2_region_arithmetic_of_a_request_does_not_wrap(client, nbytes, offset) -> None:
    with SharedObject(4096) as shared:
        assert client.register("r", shared.key, 4096)[0] in (200, "OK")
        for given, wanted in (
            (place("r", nbytes, offset), place("r", 16)),
            (place("r", 16), place("r", nbytes, offset)),
        ):
            assert infer(client, given, wanted)[0] in (400, "INVALID_ARGUMENT")
        assert shared.get(4) == [0, 0, 0, 0]


def test_1_2_unregister_in_use_and_by_another_client_harms_nobody(client) -> None:
    with SharedObject(4096) as shared:
        for _ in range(20):
            assert client.register("r", shared.key, 4096)[0] in (200, "OK")
            assert infer(client, place("r", 16), place("r", 16, 64))[0] in (200, "OK")
            assert client.unregister("r")[0] in (200, "OK")
            assert infer(client, place("r", 16), place("r", 16, 64))[0] in (404, "NOT_FOUND")


def test_2_4_unlinked_an_object_without_a_name_is_used_on(client) -> None:
    with SharedObject(4096) as shared:
        assert client.register("r", shared.key, 4096)[0] in (200, "OK")
        shared.unlink()
        shared.put(ROW)
        assert infer(client, place("r", 16), place("r", 16, 256))[0] in (200, "OK")
        assert shared.get(4, 256) == ROW[0].tolist()


def test_2_4_permission_that_the_server_lacks_is_not_told_apart_from_absence(client, monkeypatch) -> None:
    with SharedObject(4096) as shared:
        monkeypatch.setattr("edge_runtime.server.shared_objects.os.open", _refused)  # root may open everything
        texts = {client.register("r", key, 64)[1].replace(key, "KEY") for key in (shared.key, "edge_test_absent")}
        monkeypatch.undo()
        texts.add(client.register("r", "edge_test_absent", 64)[1].replace("edge_test_absent", "KEY"))
    assert len(texts) == 1


def _refused(*_: Any) -> int:
    raise PermissionError(13, "Permission denied")


def test_2_4_survives_a_clients_object_is_there_after_the_server_ended(serving, http_message) -> None:
    with SharedObject(4096) as shared:
        with serving("identity", allow_client_shm=True) as server, region_client(
            server, http_message, "http"
        ) as client:
            assert client.register("r", shared.key, 4096)[0] == 200
            shared.put(ROW)
            assert infer(client, place("r", 16), place("r", 16, 64))[0] == 200
        assert Path(shared.path).stat().st_size == 4096
        assert shared.get(4, 64) == ROW[0].tolist()


TRAVERSALS = ["..", "../identity", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "a%00b", "%ff", "identity%2f"]


@pytest.mark.parametrize("name", TRAVERSALS)
@pytest.mark.parametrize("suffix", ["", "/ready", "/config", "/stats", "/infer", "/versions/..%2f3"])
def test_1_2_traversal_in_a_models_name_is_not_found(server, name, suffix) -> None:
    answer = server.ask("POST" if suffix == "/infer" else "GET", f"/v2/models/{name}{suffix}")
    assert answer.status in (404, 405)
    assert list(answer.json) == ["error"]


@pytest.mark.parametrize("shape", [[2**31 - 1, 16], [2**31 - 1, 4], [2**62, 4], [2**63 - 1, 2**63 - 1], [4] * 32])
def test_1_2_bad_alloc_a_shape_that_nobody_can_hold_is_refused_at_once(server, watch_rss, shape) -> None:
    grown, start = watch_rss(), time.process_time()
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": [1] * 16}]}
    assert server.ask("POST", PATH, json.dumps(body).encode()).status == 400
    message = service_pb2.ModelInferRequest(model_name="identity", raw_input_contents=[bytes(64)])
    message.inputs.add(name="x", datatype="FP32", shape=shape)
    with grpc.insecure_channel(server.bound.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message.SerializeToString(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (grown() < 32 << 20, time.process_time() - start < 2) == (True, True)


def test_1_2_sizes_a_hundred_thousand_outputs_are_refused_at_once(server) -> None:
    start = time.process_time()
    body = {**JSON, "outputs": [{"name": "y"}] * 100_000}
    assert server.ask("POST", PATH, json.dumps(body).encode()).status == 400
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "name", ["triton_enable", "triton_forwarded", "sequence_id", "shared_memory_x", "classification"]
)
def test_1_2_reserved_parameters_are_refused_wherever_they_stand(server, name) -> None:
    of_input = {"inputs": [{**JSON["inputs"][0], "parameters": {name: 1}}]}
    of_output = {**JSON, "outputs": [{"name": "y", "parameters": {name: 1}}]}
    for body in ({**JSON, "parameters": {name: 1}}, of_input, of_output):
        answer = server.ask("POST", PATH, json.dumps(body).encode())
        assert (answer.status, name in answer.json["error"]) == (400, True)
    headers = {"triton-grpc-protocol-x": "1", name.replace("_", "-"): "1"}  # headers are no parameters
    assert server.ask("POST", PATH, json.dumps(JSON).encode(), headers).status == 200


def test_1_2_cancelled_a_hundred_calls_at_once_on_every_transport(server) -> None:
    message = service_pb2.ModelInferRequest(model_name="identity", raw_input_contents=[ROW.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(server.bound.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(8):
            for each in [call.future(message.SerializeToString(), timeout=10) for _ in range(100)]:
                each.cancel()
        assert ROW.tobytes() in call(message.SerializeToString(), timeout=10)


SERVER = """
import contextlib, importlib.util, resource, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("servers", sys.argv[1])
servers = sys.modules["servers"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(servers)
settings = {"unix": sys.argv[2]}
if sys.argv[3] == "libraries":
    settings.update(http_transport="aiohttp", grpc_transport="grpcio")
engine = servers.onnx_engine("identity", *servers.MODELS["identity"])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with servers.running([engine], **settings) as server:
    print(server.bound.http, server.bound.grpc, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["own", "libraries"])
def short(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A server in a process of 64 descriptors: the process, and its addresses by what is spoken there."""
    unix = str(tmp_path / "s")
    here = Path(__file__).parents[1] / "conftest.py"
    command = [sys.executable, "-c", SERVER, str(here), unix, request.param]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        http, rpc = process.stdout.readline().split()
        yield process, {"http": http, "grpc": rpc, "unix": unix}
        errors = process.communicate(timeout=20)[1]
        assert len(errors) < 2000
        assert "Traceback" not in errors


def cpu_s(process: Any) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connection(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    made = socket.socket(socket.AF_INET if port.isdigit() else socket.AF_UNIX)
    made.settimeout(0.2)
    with contextlib.suppress(OSError):
        made.connect((host, int(port)) if port.isdigit() else address)
    return made


def seconds_until_served(address: str) -> float:
    start = time.monotonic()
    while time.monotonic() - start < 10:
        with connection(address) as made, contextlib.suppress(OSError):
            made.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            if made.recv(100).startswith(b"HTTP/1.1 200"):
                return time.monotonic() - start
    return 10.0


@pytest.mark.parametrize("spoken", ["http", "grpc", "unix"])
def test_5_15_without_descriptors_the_server_neither_spins_nor_stays_away(short, spoken) -> None:
    process, addresses = short
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connection(addresses[spoken]))
        used_s = cpu_s(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) >= 60
        assert cpu_s(process) - used_s < 0.2
    assert seconds_until_served(addresses["http"]) < 1
