from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import grpc
import numpy as np
import pytest
from fakes.ended_processes import children_of, wait_until_gone
from fakes.stored_plans import plan_of_nodes
from onnx import helper
from tritonclient.grpc import service_pb2

from edge_runtime.client.client import Client
from edge_runtime.engine.loading import EngineOptions
from edge_runtime.engine.process.backoff import Backoff
from edge_runtime.engine.process.keeper import KeeperOptions
from edge_runtime.engine.process.process_engine import ProcessEngine, load_in_process
from edge_runtime.tensors import DType

ROW = np.arange(4, dtype=np.float32)
METHOD = "/inference.GRPCInferenceService/ModelInfer"
RESTARTS = 'edge_runtime_engine_restarts_total{model="m",version="1",reason="killed"}'


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ProcessEngine]:
    """x f32[batch, 4] -> y = x + x, in a process of its own; the third time it is started again after a minute."""
    row = (DType.FP32, ("batch", 4))
    plan = plan_of_nodes(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"])], {"x": row}, {"y": row})
    keeping = KeeperOptions(drain_s=0.1, ask_s=0.1, backoff=partial(Backoff, first_s=60, longest_s=60))
    engine = load_in_process(plan, EngineOptions(slots=2), keeping)
    yield engine
    engine.close()


def ask(server: Any, x: np.ndarray = ROW) -> Any:
    item = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": x.tolist()}
    return server.infer("m", {"inputs": [item]})


def ask_in_vain(server: Any) -> None:
    """Asks a server that closes the connection without an answer."""
    with pytest.raises(IndexError):
        ask(server)


def end(engine: ProcessEngine) -> None:
    os.kill(engine.pid or 0, signal.SIGKILL)


def wait_for(condition: Callable[[], Any]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def wait_until_ready(server: Any, is_ready: bool = True) -> None:
    wait_for(lambda: (server.ask("GET", "/v2/health/ready").status == 200) == is_ready)


def test_requests_under_way_end_in_503_over_both_protocols_and_the_next_ones_are_answered(serving, engine) -> None:
    with serving(engine) as server, grpc.insecure_channel(server.bound.grpc) as channel:
        os.kill(engine.pid or 0, signal.SIGSTOP)
        message = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[ROW.tobytes()])
        message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        replies: list[Any] = []
        http = threading.Thread(target=lambda: replies.append(ask(server)))
        http.start()
        call = channel.unary_unary(METHOD).future(message.SerializeToString(), timeout=20)
        wait_for(lambda: not engine._idle.qsize())  # both have a slot
        end(engine)
        http.join(10)
        assert replies[0].status == 503
        assert int(replies[0].headers["retry-after"]) >= 1
        assert "its process ended during the run" in replies[0].json["error"]
        assert call.exception(10).code() is grpc.StatusCode.UNAVAILABLE
        wait_for(lambda: f"{RESTARTS} 1" in server.ask("GET", "/metrics").body.decode())
        wait_until_ready(server)
        np.testing.assert_array_equal(ask(server).json["outputs"][0]["data"], 2 * ROW)
        assert server.counts("m") == (1, 2)


def test_readiness_and_refusals_tell_that_the_process_is_away(serving, engine) -> None:
    with serving(engine, "identity") as server:
        wait_until_ready(server)
        for is_ready in (True, False):
            end(engine)
            wait_until_ready(server, is_ready=False)
            if is_ready:
                wait_until_ready(server)
        why = "model m: its process has ended, and is started again after 60 s"
        wait_for(lambda: server.ask("GET", "/v2/health/ready").json["error"] == why)
        refused = ask(server)
        assert refused.status == 503
        assert 60 <= int(refused.headers["retry-after"]) < 80
        assert server.ask("GET", "/v2/models/m/ready").status == 503
        assert server.ask("GET", "/v2/models/identity/ready").status == 200
        assert server.infer(
            "identity", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1] * 4}]}
        )
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 10
    assert server.outcome == [True]


def test_short_runs_are_not_made_on_the_loops_thread_which_answers_while_the_process_hangs(serving, engine) -> None:
    with serving(engine, drain_s=0) as server:
        assert ask(server).status == 200
        os.kill(engine.pid or 0, signal.SIGSTOP)
        hanging = threading.Thread(target=ask_in_vain, args=(server,))
        hanging.start()
        wait_for(lambda: engine._idle.qsize() == 1)
        assert server.ask("GET", "/v2/health/live").status == 200
        server.signal()
        server.thread.join(20)
        assert server.outcome == [False]  # a run is still under way
        engine.close()
        hanging.join(10)


def test_requests_share_runs_in_a_process_too(serving, engine) -> None:
    with serving(engine, serving={"batching": "on"}) as server:
        os.kill(engine.pid or 0, signal.SIGSTOP)
        replies: dict[int, Any] = {}

        def send(seed: int) -> None:
            replies[seed] = ask(server, np.full(4, seed, np.float32)).json["outputs"][0]["data"]

        threads = [threading.Thread(target=send, args=(seed,)) for seed in range(24)]
        for thread in threads:
            thread.start()
        waiting = re.compile(r'pending_request_count\{model="m",version="1"\} ([0-9]+)')
        # Two runs of up to 8 rows are under way, and the others wait.
        wait_for(lambda: int(waiting.findall(server.ask("GET", "/metrics").body.decode())[0]) >= 8)
        os.kill(engine.pid or 0, signal.SIGCONT)
        for thread in threads:
            thread.join(20)
        assert replies == {seed: [2.0 * seed] * 4 for seed in range(24)}
        statistics = server.ask("GET", "/v2/models/m/stats").json["model_stats"][0]
        assert (statistics["inference_count"], statistics["execution_count"] < 24) == (24, True)


def test_serve_runs_each_model_in_a_process_of_its_own_which_ends_with_it(tmp_path: Path) -> None:
    row = (DType.FP32, ("batch", 4))
    for name in "ab":
        plan_of_nodes(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"])], {"x": row}, {"y": row}, name)
    command = [sys.executable, "-c", "from edge_runtime.cli.main import main; main()", "serve", "--engines", tmp_path]
    flags = ["--engine-process", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--json", "--board", "none"]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["http"]
        first, second = children_of(process.pid)
        with Client(f"http://{address}") as client:
            assert client.infer("a", {"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2] * 4]
            os.kill(first, signal.SIGKILL)
            wait_until_gone(first)
            wait_for(lambda: len(children_of(process.pid)) == 2 and client.is_ready())
            for name in "ab":
                assert client.infer(name, {"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2] * 4]
        children = children_of(process.pid)
        assert second in children
        for pid in (*children, process.pid):  # as a service manager ends all of a service
            os.kill(pid, signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "was ended by SIGKILL" in process.stderr.read()
    for pid in children:
        wait_until_gone(pid)


LOSING_THE_GPU = """
import numpy as np
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.errors import DeviceLostError
from edge_runtime.server.accelerators import Prepared
from edge_runtime.server.lifecycle import run
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.warm_up import Measured
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

class Slot:
    def bind(self, name, shape):
        return np.empty(shape, np.float32)
    def run(self):
        raise DeviceLostError("an illegal address")  # a made-up fault
    def close(self):
        raise SystemExit("nothing of the GPU can be given back")

x, y = (TensorSpec(name, DType.FP32, (1, 4)) for name in "xy")
signature = Signature((x,), (y,), {"x": ShapeRange.fixed((1, 4))})
engine = Engine(EngineInfo("m", 1, "", "tensorrt_plan", "fp16", "gpu:0"), signature, Slot, 2)
settings = ServerSettings(http="127.0.0.1:0", grpc="127.0.0.1:0", board="none")
run([Prepared(engine, Measured((), False))], settings, lambda bound: print(bound.http, flush=True))
"""


def test_a_server_that_has_lost_its_gpu_answers_and_ends_with_status_70_at_once(http_message, http_replies) -> None:
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0] * 4}]}).encode()
    with subprocess.Popen([sys.executable, "-c", LOSING_THE_GPU], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().rpartition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(http_message("POST", "/v2/models/m/infer", body))
            (reply,) = http_replies(connection, 1)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        answered_s = time.monotonic()
        assert process.wait(10) == 70
        assert time.monotonic() - answered_s < 5


def test_the_last_client_hears_of_a_lost_gpu_before_the_server_ends(serving, gated) -> None:
    from edge_runtime.errors import DeviceLostError

    def lost() -> Any:
        raise DeviceLostError("an illegal address")  # a made-up fault

    gated.run = lost
    with serving(gated.engine) as server:
        head = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW.tolist()}]}
        reply = server.infer("gated", json.dumps(head).encode())
        assert reply.status == 503
        assert reply.json["error"] == "the server has lost its GPU, and is started again; try again later"
        server.thread.join(20)
        assert server.outcome == [False]
