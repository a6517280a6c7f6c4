"""`edge-runtime serve` as a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import grpc
import numpy as np
import onnxruntime
import pytest
from fakes.board_readings import RAMP
from tritonclient.http import InferenceServerClient, InferInput

from edge_runtime.plan.manifest import Manifest
from edge_runtime.plan.store import PlanStore
from edge_runtime.wire.tokens import token_line

COMMAND = [sys.executable, "-c", "from edge_runtime.cli.main import main; main()", "serve"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, classifier: bytes) -> Path:
    """A store with one plan: `classifier`, x f32[batch, 4] -> scores f32[batch, 3]."""
    root = tmp_path_factory.mktemp("engines")

    def manifest(version: int) -> Manifest:
        return Manifest.model_validate(
            {
                "schema": 1,
                "name": "classifier",
                "version": version,
                "created": "2026-01-01T00:00:00+00:00",
                "edge_runtime": "0",
                "build_key": "k",
                "precision": "fp32",
                "plan": {
                    "file": "model.onnx",
                    "sha256": hashlib.sha256(classifier).hexdigest(),
                    "nbytes": len(classifier),
                },
                "source": {"source": "m.onnx", "digest": "0" * 64, "files": {}},
                "data": {},
                "backend": {
                    "name": "onnxruntime",
                    "version": onnxruntime.__version__,
                    "platform": "onnxruntime_onnx",
                    "device": "cpu",
                },
                "device": {"kind": "cpu"},
                "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 4], "axes": ["batch", ""]}],
                "outputs": [{"name": "scores", "dtype": "FP32", "shape": [-1, 3], "axes": ["batch", ""]}],
                "profile": {"x": {"min": [1, 4], "opt": [1, 4], "max": [8, 4]}},
                "max_batch_size": 8,
                "candidates": [],
            }
        )

    PlanStore(root).publish("classifier", manifest, {"model.onnx": classifier})
    return root


@contextlib.contextmanager
def started(engines: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen, Any]]:
    """The process, and its first line as JSON."""
    addresses = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json")
    command = [*COMMAND, "--engines", str(engines), *addresses, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


UNSIGNED = "WARNING edge_runtime.cli.startup: not signed: classifier"


def said(process: subprocess.Popen) -> list[str]:
    """The lines of a server's log, of a warning what comes before its remedy."""
    return [line.partition(";")[0] for line in process.stderr.read().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_under_load_loses_no_answer(engines, http_message, http_replies, number) -> None:
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
    request = http_message("POST", "/v2/models/classifier/infer", body)
    statuses: list[int] = []
    torn: list[bytes] = []
    warm = threading.Semaphore(0)

    def send_until_refused(address: tuple[str, int]) -> None:
        with contextlib.suppress(ConnectionError), socket.create_connection(address, 10) as connection:
            while not statuses or statuses[-1] == 200:
                connection.sendall(request)
                answers = list(http_replies(connection, 1))
                statuses.extend(answer.status for answer in answers)
                torn.extend(each.body for each in answers if len(each.body) != int(each.headers["content-length"]))
                warm.release()
                if not answers:
                    return

    with started(engines) as (process, ready):
        assert sorted(ready) == ["event", "grpc", "http", "startup_s", "unix"]
        assert ready["event"] == "ready"
        host, port = ready["http"].rsplit(":", 1)
        threads = [threading.Thread(target=send_until_refused, args=((host, int(port)),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            assert warm.acquire(timeout=10)
        process.send_signal(number)
        assert process.wait(10) == 0
        for thread in threads:
            thread.join(10)
        assert (process.stdout.read(), said(process)) == ("", [UNSIGNED])
    assert not torn
    assert set(statuses) <= {200, 503}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("place", ["in use", "0.0.0.0:0", "nonsense"])
def test_an_address_that_can_not_be_served_ends_with_78(engines, server, protocol, place) -> None:
    address = getattr(server.bound, protocol) if place == "in use" else place
    with started(engines, f"--{protocol}", address) as (process, first):
        assert first["error"]["type"] == "ConfigError"
        assert process.wait(20) == 78
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("board", "message"),
    [
        ("replay:none.log", "--board: 'none.log': the recording can't be read"),
        ("here", "--board 'here': expected one of"),
    ],
)
def test_a_board_that_can_not_be_had_ends_with_78_before_anything_is_loaded(engines, board, message) -> None:
    with started(engines, "--board", board) as (process, first):
        assert first["error"]["type"] == "ConfigError"
        assert first["error"]["message"].startswith(message)
        assert process.wait(20) == 78
        assert process.stderr.read().count("\n") == 1


def test_a_replayed_board_is_told_and_decides_nothing(engines) -> None:
    with started(engines, "--board", f"replay:{RAMP}") as (process, ready):
        with contextlib.closing(http.client.HTTPConnection(ready["http"], timeout=20)) as connection:
            found: Any = {"board": {"replay_of": None}}
            while found["board"]["replay_of"] is None:  # it is opened beside the start
                connection.request("GET", "/live")
                found = json.loads(connection.getresponse().read())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert (found["board"]["replay_of"], found["board"]["module"]) == (RAMP.name, "Orin Nano 8GB")
    assert found["models"][0]["device"] == "cpu"


def test_answers_are_those_of_the_plan(engines, classifier) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(classifier).run(None, {"x": rows})
    with started(engines, "classifier", "--slots", "2") as (_, ready), InferenceServerClient(ready["http"]) as client:
        tensor = InferInput("x", [3, 4], "FP32")
        tensor.set_data_from_numpy(rows)
        found = client.infer("classifier", [tensor]).as_numpy("scores")
        assert client.get_model_config("classifier")["instance_group"][0]["count"] == 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("arguments", "is_declared"), [((), False), (("--allow-client-shm",), True)])
def test_the_flag_lets_clients_share_their_memory(engines, arguments, is_declared) -> None:
    with started(engines, *arguments) as (_, ready), InferenceServerClient(ready["http"]) as client:
        assert ("system_shared_memory" in client.get_server_metadata()["extensions"]) is is_declared


def test_5_22_a_second_server_on_a_socket_ends_with_78_before_it_loads_anything(engines, tmp_path) -> None:
    path = str(tmp_path / "socket")
    with started(engines, "--unix", path), started(engines, "--unix", path) as (second, first):
        assert first["error"]["message"].startswith(f"Unix socket {path}: another server listens")
        assert second.wait(20) == 78


def test_5_22_a_socket_that_a_killed_server_left_is_taken_over(engines, tmp_path) -> None:
    path = str(tmp_path / "socket")
    with started(engines, "--unix", path) as (process, _):
        process.kill()
        process.wait(20)
    assert Path(path).is_socket()
    with started(engines, "--unix", path) as (_, ready):
        assert ready["unix"] == path


def test_3_3_tokens_are_read_again_on_sighup(engines, tmp_path, http_message, http_replies) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("robot", False, "before"))

    def status(address: str, token: str) -> int:
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 20) as connection:
            connection.sendall(http_message("GET", "/v2", headers={"Authorization": f"Bearer {token}"}))
            return next(iter(http_replies(connection, 1))).status

    with started(engines, "--tokens", str(tokens), "--log-level", "INFO") as (process, ready):
        assert (status(ready["http"], "before"), status(ready["http"], "after")) == (200, 401)
        tokens.write_text(token_line("robot", False, "after"))
        process.send_signal(signal.SIGHUP)
        while "read anew" not in process.stderr.readline():
            assert process.poll() is None
        assert (status(ready["http"], "before"), status(ready["http"], "after")) == (401, 200)
        process.terminate()
        assert process.wait(20) == 0
        assert "before" not in process.stderr.read()


def test_with_model_control_the_plans_of_the_store_are_loaded_and_unloaded(engines) -> None:
    with started(engines, "--model-control") as (process, ready):
        with contextlib.closing(InferenceServerClient(ready["http"])) as client:
            client.load_model("classifier")
            client.unload_model("classifier")
            (found,) = client.get_model_repository_index()
            assert (found["name"], found["version"], found["state"]) == ("classifier", "1", "UNAVAILABLE")
            assert not client.is_model_ready("classifier")
            client.load_model("classifier")
            x = InferInput("x", [1, 4], "FP32")
            x.set_data_from_numpy(np.zeros((1, 4), np.float32))
            assert client.infer("classifier", [x]).as_numpy("scores").shape == (1, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert said(process) == [UNSIGNED]


def test_no_log_level_shows_what_clients_send_in_headers(engines) -> None:
    secret = "hidden-from-every-log"
    with started(engines, "--log-level", "DEBUG") as (process, ready), grpc.insecure_channel(ready["grpc"]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        call(b"", timeout=10, metadata=[("authorization", f"Bearer {secret}")])
        process.terminate()
        logged = process.stderr.read()
    assert "DEBUG" in logged
    assert secret not in logged
