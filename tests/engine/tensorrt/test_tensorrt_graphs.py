from __future__ import annotations

import logging
from typing import Any, Callable

import numpy as np
import pytest
from fakes.cuda import ORIN, FakeCuda

from edge_runtime.engine.tensorrt import graphs
from edge_runtime.engine.tensorrt.execution import Execution
from edge_runtime.errors import BackendError, DeviceLostError
from edge_runtime.tensors import ShapeRange

FIXED = {"x": ShapeRange.fixed((2, 4))}
BATCHED = {"x": ShapeRange((1, 4), (1, 4), (60, 4))}


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def check(engine: Any, *batches: int) -> None:
    for seed, n in enumerate(batches):
        np.testing.assert_allclose(engine.infer({"x": rows(n, seed)})["y"], 2 * rows(n, seed))


def test_a_fixed_shape_is_captured_once_and_then_launched(rig: Any, doubling: bytes) -> None:
    engine = rig.engine(doubling, FIXED, memory="copy")
    check(engine, 2, 2)
    copies = rig.cuda.counts["copy_async"]
    check(engine, 2, 2, 2, 2)
    assert rig.cuda.counts["end_capture"] == 1
    assert rig.cuda.counts["launch_graph"] >= 4
    assert rig.cuda.counts["copy_async"] == copies  # copies are in the graph


@pytest.mark.parametrize("surface", ["10.3", "11.4"])
def test_each_shape_has_its_graph_and_a_context_of_its_own(
    make_rig: Callable[..., Any], doubling: bytes, surface: str
) -> None:
    rig = make_rig(surface)
    engine = rig.engine(doubling, BATCHED)
    check(engine, 1, 2, 3)
    assert rig.cuda.counts["end_capture"] == 3
    check(engine, 1, 2, 3, 3, 1)
    assert (rig.cuda.counts["end_capture"], rig.cuda.counts["launch_graph"]) == (3, 5)
    with engine.slot() as slot:
        contexts = {id(found.execution.context) for found in slot._graphs._captured.values()}
        assert len(contexts | {id(slot.context)}) == 4


@pytest.mark.parametrize("surface", ["8.2", "8.6"])
def test_where_contexts_share_nothing_a_graph_goes_with_the_shape(
    make_rig: Callable[..., Any], doubling: bytes, surface: str
) -> None:
    rig = make_rig(surface)
    engine = rig.engine(doubling, BATCHED)
    check(engine, 1, 1, 1, 1)
    assert (rig.cuda.counts["end_capture"], rig.cuda.counts["launch_graph"]) == (1, 2)
    check(engine, 2)
    assert rig.cuda.counts["destroy_graph"] == 1
    check(engine, 1, 2, 1, 2)
    assert rig.cuda.counts["end_capture"] == 1  # no shape came twice in a row
    check(engine, 2, 2)
    assert (rig.cuda.counts["end_capture"], rig.cuda.counts["launch_graph"]) == (2, 3)


def test_the_shape_that_was_not_used_for_longest_makes_room_for_one_in_use(
    make_rig: Callable[..., Any], doubling: bytes
) -> None:
    rig = make_rig()
    engine = rig.engine(doubling, BATCHED)
    shapes = range(1, graphs.MOST_GRAPHS + 1)
    check(engine, *shapes, *shapes)
    assert rig.cuda.counts["launch_graph"] == graphs.MOST_GRAPHS
    check(engine, 50)
    assert rig.cuda.counts["end_capture"] == graphs.MOST_GRAPHS  # each of the others was of more use
    check(engine, 50, 50)
    assert rig.cuda.counts["end_capture"] == graphs.MOST_GRAPHS + 1
    assert rig.cuda.counts["destroy_graph"] == 1
    with engine.slot() as slot:
        assert (((50, 4),), 0) in slot._graphs._captured
        assert (((1, 4),), 0) not in slot._graphs._captured


def test_more_shapes_in_turn_than_there_is_room_for_are_not_captured_over_and_over(
    make_rig: Callable[..., Any], doubling: bytes
) -> None:
    rig = make_rig()
    engine = rig.engine(doubling, BATCHED)
    for _ in range(10):
        check(engine, *range(1, graphs.MOST_GRAPHS + 9))
    assert rig.cuda.counts["launch_graph"] > 250
    assert rig.cuda.counts["end_capture"] < graphs.MOST_GRAPHS + 40


@pytest.mark.parametrize("call", ["begin_capture", "end_capture"])
def test_a_capture_that_fails_leaves_the_shape_without_a_graph(
    rig: Any, doubling: bytes, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = rig.engine(doubling, FIXED)
    rig.cuda.fail_next(call, 901)
    with caplog.at_level(logging.INFO, "edge_runtime.engine.tensorrt.graphs"):
        check(engine, 2, 2, 2, 2, 2)
    assert [record.getMessage().count("runs without a CUDA graph") for record in caplog.records] == [1]
    caplog.clear()  # the error in it keeps arrays
    assert rig.cuda.counts["launch_graph"] == 0
    assert rig.cuda.counts["begin_capture"] == 1


def test_an_enqueue_that_cannot_be_captured_is_abandoned(
    rig: Any, doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = rig.engine(doubling, FIXED)
    real = Execution.enqueue

    def refuse(self: Execution) -> None:
        if rig.cuda._stream(self._stream).capture:
            raise BackendError("not while capturing")
        real(self)

    monkeypatch.setattr(Execution, "enqueue", refuse)
    check(engine, 2, 2, 2, 2)
    assert rig.cuda.counts["abandon_capture"] > 0
    assert rig.cuda.counts["launch_graph"] == 0


def test_a_graph_that_cannot_be_launched_is_dropped_and_the_run_is_made_without(rig: Any, doubling: bytes) -> None:
    engine = rig.engine(doubling, FIXED)
    check(engine, 2, 2, 2)
    launched = rig.cuda.counts["launch_graph"]
    rig.cuda.fail_next("launch_graph", 1)
    check(engine, 2, 2, 2)
    assert rig.cuda.counts["launch_graph"] == launched + 1
    assert rig.cuda.counts["destroy_graph"] == 1


def test_after_many_refusals_no_graph_is_tried(make_rig: Callable[..., Any], doubling: bytes) -> None:
    rig = make_rig()
    engine = rig.engine(doubling, BATCHED)
    for _ in range(20):
        rig.cuda.fail_next("end_capture", 901)
    check(engine, *range(1, 21), *range(1, 21))
    assert rig.cuda.counts["begin_capture"] == graphs._MOST_REFUSALS


def test_contexts_that_cannot_be_had_limit_the_graphs(
    make_rig: Callable[..., Any], doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig()
    engine = rig.engine(doubling, BATCHED)
    check(engine, 1, 2)
    monkeypatch.setattr(rig.module.ICudaEngine, "create_execution_context", lambda self, strategy=None: None)
    check(engine, 3, 4, 1, 2)
    assert (rig.cuda.counts["end_capture"], rig.cuda.counts["launch_graph"]) == (2, 2)


def test_a_device_that_is_lost_while_capturing_is_reported(rig: Any, doubling: bytes) -> None:
    engine = rig.engine(doubling, FIXED)
    rig.cuda.fail_next("end_capture", 700)
    with pytest.raises(DeviceLostError):
        check(engine, 2, 2, 2)
    engine.close()


@pytest.mark.parametrize(("options", "has_graphs"), [({"graphs": "off"}, True), ({}, False)])
def test_without_graphs_nothing_is_captured(
    make_rig: Callable[..., Any], doubling: bytes, options: dict, has_graphs: bool
) -> None:
    rig = make_rig("10.3", FakeCuda(ORIN, has_graphs=has_graphs))
    check(rig.engine(doubling, BATCHED, **options), 2, 2, 2, 2)
    assert rig.cuda.counts["begin_capture"] == rig.cuda.counts["abandon_capture"] == 0
