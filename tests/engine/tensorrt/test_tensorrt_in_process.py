"""Plans of TensorRT in a process of their own, which has the fake board."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from fakes.board_setup import TESTS, use_in_process
from fakes.stored_plans import stored_board_plan

from edge_runtime.engine.loading import EngineOptions
from edge_runtime.engine.process.keeper import KeeperOptions
from edge_runtime.engine.process.process_engine import ProcessEngine, load_in_process
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.tensors import ShapeRange

BATCHED = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
ON_A_BOARD = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import pytest
from fakes.board_setup import use_in_process
from edge_runtime.engine import loading
from edge_runtime.engine.process import served_engine
from edge_runtime.engine.tensorrt import loading as tensorrt
from edge_runtime.engine.tensorrt.slot import TensorRTSlot
board = use_in_process(pytest.MonkeyPatch(), "10.3")
board.cuda.use_device(0)
loading.preflight = lambda stored, plugins: ()
tensorrt.trial_run_in_child = lambda request: {{"ok": True, "ran": True, "problem": ""}}
plain = TensorRTSlot.run
def run(slot):
    if slot._tensors.memory["x"].view((1, 4))[0, 0] == 666:
        board.cuda.fail_next("record_event", 700)  # a made-up fault: an illegal address
    return plain(slot)
TensorRTSlot.run = run
served_engine.main()
"""


@pytest.fixture
def engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, build_plan: Any, signature_for: Any, doubling: bytes
) -> Iterator[ProcessEngine]:
    """x f32[batch, 4] -> y = 2x."""
    board = use_in_process(monkeypatch, "10.3")
    board.cuda.use_device(0)
    plan = build_plan(board.tensorrt, doubling, [BATCHED])
    stored = stored_board_plan(tmp_path / "engines", plan, signature_for(doubling, BATCHED))
    keeping = KeeperOptions(command=(sys.executable, "-c", ON_A_BOARD))
    with load_in_process(stored, EngineOptions(slots=2), keeping) as made:
        yield made


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)


def test_a_plan_of_tensorrt_answers_at_every_batch(engine: ProcessEngine) -> None:
    for n in (3, 8, 1, 3):
        np.testing.assert_array_equal(engine.infer({"x": rows(n)})["y"], 2 * rows(n))


def test_a_process_that_loses_its_gpu_is_replaced(engine: ProcessEngine, caplog: Any) -> None:
    is_back = threading.Event()
    engine.keeper.watch(lambda: engine.keeper.hindrance or is_back.set())
    with pytest.raises(ServerUnavailableError, match="lost the GPU during the run"):
        engine.infer({"x": np.full((1, 4), 666, np.float32)})
    assert is_back.wait(20)
    np.testing.assert_array_equal(engine.infer({"x": rows(2)})["y"], 2 * rows(2))
    assert engine.keeper.restarts["device_lost"] == 1
    assert "illegal" in caplog.text
