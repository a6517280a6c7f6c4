"""Engines in processes of their own, over small plans in a store."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from fakes.stored_plans import plan_of_nodes
from onnx import helper

from edge_runtime.engine.loading import EngineOptions
from edge_runtime.engine.process.keeper import KeeperOptions
from edge_runtime.engine.process.process_engine import ProcessEngine, load_in_process
from edge_runtime.plan.store import StoredPlan
from edge_runtime.tensors import DType


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., StoredPlan]:
    """`make_plan(nodes, inputs, outputs)`: see `plan_of_nodes`."""
    return partial(plan_of_nodes, tmp_path / "engines")


@pytest.fixture
def doubling(make_plan: Callable[..., StoredPlan]) -> StoredPlan:
    """x f32[batch, 4] -> y = x + x."""
    row = (DType.FP32, ("batch", 4))
    return make_plan([helper.make_node("Add", ["x", "x"], ["y"])], {"x": row}, {"y": row})


@pytest.fixture
def start() -> Iterator[Callable[..., ProcessEngine]]:
    """`start(plan, slots=1, **keeping)`: its engine, which is closed at the end."""
    started: List[ProcessEngine] = []

    def begun(plan: Any, slots: int = 1, **keeping: Any) -> ProcessEngine:
        started.append(load_in_process(plan, EngineOptions(slots=slots), KeeperOptions(**keeping)))
        return started[-1]

    yield begun
    for engine in started:
        engine.close()
