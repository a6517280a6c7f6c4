from __future__ import annotations

import json
from typing import Any, Callable

import numpy as np
import pytest
from fakes.board_setup import use_in_process
from fakes.tensorrt import SURFACES

from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.engine.tensorrt.profiling import LayerTimes, make_profiler, profiled_layers
from edge_runtime.engine.tensorrt_layers import profile_from_tensorrt
from edge_runtime.errors import BackendError
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensorrt_api import FULL, from_module
from edge_runtime.tensors import ShapeRange

BATCHED = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}


@pytest.fixture(params=SURFACES)
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = use_in_process(monkeypatch, request.param)
    found.cuda.use_device(0)
    return found


def profile(board: Any, build_plan: Callable[..., bytes], signature_for: Any, model: bytes, runs: int = 3) -> Any:
    plan = PlanFiles({"model.plan": build_plan(board.tensorrt, model, [BATCHED])})
    feeds = {"x": np.ones((2, 4), np.float32)}
    options = ProfileOptions(runs, 2, 1)
    return profiled_layers(plan, signature_for(model, BATCHED), feeds, options, TensorRTOptions(), "model 'm'")


def test_each_timed_run_has_a_row_for_each_layer(
    board: Any, build_plan: Callable[..., bytes], signature_for: Any, classifier: bytes
) -> None:
    found = profile(board, build_plan, signature_for, classifier)
    assert len(found.runs) == len(found.whole_us) == 3
    assert [name for name, _ in found.runs[0]] == [name for name, _ in found.runs[2]]
    assert all(whole_us > 0 for whole_us in found.whole_us)
    assert len(json.loads(found.inspector)["Layers"]) == len(found.runs[0])
    board.cuda.check_leaks()


def test_layers_are_made_of_it(
    board: Any, build_plan: Callable[..., bytes], signature_for: Any, classifier: bytes
) -> None:
    found = profile(board, build_plan, signature_for, classifier)
    layers = profile_from_tensorrt("tensorrt", found.inspector, found.runs, found.whole_us, ["hidden", "relu", "head"])
    assert layers.runs == 3
    assert [layer.nodes for layer in layers.layers] == [("hidden", "relu"), ("head",)]


def test_runs_that_are_not_reported_are_an_error(
    board: Any,
    build_plan: Callable[..., bytes],
    signature_for: Any,
    classifier: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board.tensorrt.IExecutionContext, "report_to_profiler", lambda self: False)
    with pytest.raises(BackendError, match="model 'm': TensorRT reports no layers"):
        profile(board, build_plan, signature_for, classifier)
    board.cuda.check_leaks()


def test_what_goes_wrong_in_the_profiler_is_raised_later(board: Any) -> None:
    times = LayerTimes()
    profiler = make_profiler(from_module(FULL, board.tensorrt), times)
    profiler.report_layer_time("a", 1.0)
    times.add("b", "no number")
    with pytest.raises(ValueError, match="no number"):
        times.take()
