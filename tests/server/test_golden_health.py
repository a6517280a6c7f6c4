"""A server whose engine begins to answer wrongly, or not at all, while it is served."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from fakes.served_models import ListeningManager

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.server.lifecycle import Control
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

SPEC = {"dtype": DType.FP32, "shape": (-1, 4), "axes": ("batch", "")}
SIGNATURE = Signature(
    (TensorSpec("x", SPEC["dtype"], SPEC["shape"], SPEC["axes"]),),
    (TensorSpec("y", SPEC["dtype"], SPEC["shape"], SPEC["axes"]),),
    {"x": ShapeRange((1, 4), (1, 4), (8, 4))},
)
TIMES = {"golden_interval_s": 0.1}


class MoodyEngine:
    """A made-up engine `moody`, x f32[batch, 4] -> y = x factor, whose runs wait while it `hangs`."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.goes_on = threading.Event()
        self.goes_on.set()
        info = EngineInfo("moody", 3, "made up", "made_up", "fp32", "cpu")
        self.engine = Engine(info, SIGNATURE, lambda: self, 1)

    def bind(self, name: str, shape: tuple) -> np.ndarray:
        self._array = np.empty(shape, np.float32)
        return self._array

    def run(self) -> dict[str, np.ndarray]:
        assert self.goes_on.wait(60)
        return {"y": self._array * np.float32(self.factor)}

    def close(self) -> None:
        pass


@pytest.fixture
def moody() -> Any:
    made = MoodyEngine()
    yield made
    made.goes_on.set()


def reason(server: Any, status: int) -> str:
    """What readiness says once its status is this one."""
    end_s = time.monotonic() + 30
    while True:
        reply = server.ask("GET", "/v2/health/ready")
        if reply.status == status:
            return reply.json.get("error", "")
        assert time.monotonic() < end_s, reply.json


def test_wrong_answers_are_told_and_end_the_signs_of_life_until_they_are_right_again(serving, moody) -> None:
    manager = ListeningManager(watchdog_s=0.3)
    with serving(moody.engine, control=Control(manager=manager), **TIMES) as server:
        moody.factor = 2.0
        assert "model moody: its last golden run was wrong: output 'y': differs by 100.0%" in reason(server, 503)
        page = ""
        while 'outcome="wrong"} 3' not in page:
            page = server.ask("GET", "/metrics").body.decode()
        signs = manager.signs
        assert 'edge_runtime_golden_run_right{model="moody",version="3"} 0' in page
        while 'outcome="wrong"} 6' not in page:
            page = server.ask("GET", "/metrics").body.decode()
        assert manager.signs == signs
        moody.factor = 1.0
        reason(server, 200)
        assert server.counts("moody") == (0, 0)
    assert ("STOPPING", "1") in manager.told


def test_a_hang_is_told_of_and_ends_with_its_run(serving, moody) -> None:
    with serving(moody.engine, **TIMES) as server:
        moody.goes_on.clear()
        assert "model moody: its golden run hasn't ended in time" in reason(server, 503)
        assert server.ask("GET", "/v2/health/live").status == 200
        moody.goes_on.set()
        reason(server, 200)
