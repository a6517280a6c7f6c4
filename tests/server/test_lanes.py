"""The lane as a server has it: drained, within the model's default deadline, forgotten when its client is gone."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.client.client import Client
from edge_runtime.errors import DeadlineExpiredError, RemoteError, ServerUnavailableError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def frames(path: str, model: str = "gated") -> Any:
    return Client(f"unix://{path}").frames(model, {"x": (1, 4)})


def test_frames_are_answered_in_place(serving, path) -> None:
    with serving("identity", unix=path) as server, frames(path, "identity") as opened:
        for value in range(5):
            opened[0].inputs["x"][:] = value
            opened[0].run()
            assert np.array_equal(opened[0].outputs["y"], np.full((1, 4), value))
        assert server.counts("identity")[1] == 0


def test_a_client_that_rings_again_at_once_is_never_told_that_its_frame_is_in_use(serving, unhurried, path) -> None:
    with serving(unhurried, unix=path) as server, frames(path, "unhurried") as opened:
        frame = opened[0]
        for value in range(1000):
            frame.inputs["x"][:] = value
            frame.run()
            assert frame.outputs["y"][0, 0] == value
        assert server.counts("unhurried") == (1002, 0)  # two of them to find out the shapes


def test_clients_that_go_away_while_their_frames_run_leave_no_descriptor(serving, unhurried, path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with serving(unhurried, unix=path) as server:
        frames(path, "unhurried").close()
        before = descriptors()
        for _ in range(20):
            with frames(path, "unhurried") as opened:
                opened[0].run()
                opened[0].start()
        end = time.monotonic() + 10
        while descriptors() > before:
            gc.collect()  # the client's frames, which live in this process too
            assert time.monotonic() < end
        assert server.ask("GET", "/v2/health/ready").status == 200


def test_a_drain_answers_what_runs_in_a_lane_and_refuses_what_is_new(serving, gated, path) -> None:
    gated.release(4)  # for finding out the shapes of two openings
    with serving(gated.engine, unix=path) as server, frames(path) as running, frames(path) as new:
        while gated.begun.acquire(blocking=False):
            pass
        gated.take_back()
        done = threading.Thread(target=running[0].run)
        done.start()
        assert gated.begun.acquire(timeout=10)
        server.signal()
        while server.ask("GET", "/v2/health/ready").status == 200:
            pass
        with pytest.raises(ServerUnavailableError):
            new[0].run()
        gated.release()
        done.join(10)
        server.thread.join(10)
        assert server.outcome == [True]


def test_the_models_default_deadline_holds_in_a_lane(serving, gated, path) -> None:
    gated.release(2)
    with serving(gated.engine, serving={"deadline_ms": 200}, unix=path) as server, frames(path) as opened:
        while gated.begun.acquire(blocking=False):
            pass
        gated.take_back()
        busy = threading.Thread(
            target=lambda: server.infer(
                "gated", b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
            )
        )
        busy.start()
        assert gated.begun.acquire(timeout=10)
        start = time.monotonic()
        with pytest.raises(DeadlineExpiredError):
            opened[0].run()
        assert time.monotonic() - start < 5
        gated.release()
        busy.join(10)


def test_strings_are_refused_for_they_have_no_fixed_size(serving, path) -> None:
    with serving("words", unix=path) as server, Client(f"unix://{path}") as client:
        with pytest.raises(RemoteError, match=r"tensor 'text' is of BYTES, .* send the request over HTTP or gRPC"):
            client.frames("words", {"text": (1, 2), "id": (1,)})
        assert server.ask("GET", "/v2/health/ready").status == 200
