from __future__ import annotations

import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Iterator

import grpc
import numpy as np
import pytest
from fakes.stored_plans import plan_of_nodes
from onnx import helper
from tritonclient.grpc import service_pb2

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


def end(engine: ProcessEngine) -> None:
    os.kill(engine.pid or 0, signal.SIGKILL)


def wait_until_ready(server: Any, is_ready: bool = True) -> Any:
    end_s = time.monotonic() + 20
    while True:
        reply = server.ask("GET", "/v2/health/ready")
        if (reply.status == 200) == is_ready:
            return reply
        assert time.monotonic() < end_s


def test_requests_under_way_end_in_503_over_both_protocols_and_the_next_ones_are_answered(serving, engine) -> None:
    with serving(engine) as server, grpc.insecure_channel(server.bound.grpc) as channel:
        os.kill(engine.pid or 0, signal.SIGSTOP)
        message = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[ROW.tobytes()])
        message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        replies: list[Any] = []
        http = threading.Thread(target=lambda: replies.append(ask(server)))
        http.start()
        call = channel.unary_unary(METHOD).future(message.SerializeToString(), timeout=20)
        while server.ask("GET", "/metrics").body.count(b"pending_request_count{") < 1 or engine._idle.qsize():
            pass  # until both have a slot
        end(engine)
        http.join(10)
        assert replies[0].status == 503
        assert int(replies[0].headers["retry-after"]) >= 1
        assert "its process ended during the run" in replies[0].json["error"]
        assert call.exception(10).code() is grpc.StatusCode.UNAVAILABLE
        wait_until_ready(server)
        np.testing.assert_array_equal(ask(server).json["outputs"][0]["data"], 2 * ROW)
        assert server.counts("m") == (1, 2)
        assert f"{RESTARTS} 1" in server.ask("GET", "/metrics").body.decode()


def test_readiness_and_refusals_tell_that_the_process_is_away(serving, engine) -> None:
    with serving(engine, "identity") as server:
        wait_until_ready(server)
        for is_ready in (True, False):
            end(engine)
            wait_until_ready(server, is_ready=False)
            if is_ready:
                wait_until_ready(server)
        reply = wait_until_ready(server, is_ready=False)
        while "after 60 s" not in reply.json["error"]:
            reply = server.ask("GET", "/v2/health/ready")
        assert reply.json["error"] == "model m: its process has ended, and is started again after 60 s"
        refused = ask(server)
        assert (refused.status, refused.headers["retry-after"]) == (503, "60")
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
        replies: list[Any] = []
        hanging = threading.Thread(target=lambda: replies.append(ask(server)))
        hanging.start()
        while engine._idle.qsize() == 2:
            pass
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

        threads = [threading.Thread(target=send, args=(seed,)) for seed in range(12)]
        for thread in threads:
            thread.start()
        waiting = 'nv_inference_pending_request_count{model="m",version="1"} 10'
        while waiting not in server.ask("GET", "/metrics").body.decode():
            pass  # until two runs are under way, and all others wait
        os.kill(engine.pid or 0, signal.SIGCONT)
        for thread in threads:
            thread.join(20)
        assert replies == {seed: [2.0 * seed] * 4 for seed in range(12)}
        statistics = server.ask("GET", "/v2/models/m/stats").json["model_stats"][0]
        assert (statistics["inference_count"], statistics["execution_count"] < 12) == (12, True)


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
