from __future__ import annotations

from typing import Any, Dict

import numpy as np
import pytest

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.golden_run import verified_golden
from edge_runtime.errors import BackendError, GoldenRunError
from edge_runtime.plan.golden import Golden
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", DType.FP32, (2,)),), (TensorSpec("y", DType.FP32, (2,)),), {"x": ShapeRange.fixed((2,))}
)


class Doubling:
    """A slot that gives twice its input, and takes no zeros."""

    factor = np.float32(2)

    def __init__(self) -> None:
        self.memory = np.zeros(2, np.float32)

    def bind(self, name: str, shape: Any) -> Any:
        return self.memory

    def run(self) -> Dict[str, Any]:
        if not self.memory.all():
            raise BackendError("division by zero")
        return {"y": self.memory * self.factor}

    def close(self) -> None:
        pass


class Refusing(Doubling):
    def run(self) -> Dict[str, Any]:
        raise BackendError("no")


def engine(slot: Any = Doubling) -> Engine:
    return Engine(EngineInfo("m", 3, "", "", "", ""), SIGNATURE, slot, 1)


def golden(y: Any) -> Golden:
    return Golden({"x": np.float32([1, 2])}, {"y": np.asarray(y, np.float32)}, "held out")


def test_an_engine_that_rounds_otherwise_is_held_to_its_own_answer_from_then_on() -> None:
    found = verified_golden(engine(), golden([2.001, 4]))
    assert found is not None
    assert found.is_exact({"y": np.float32([2, 4])})
    assert found.origin == "held out"


def test_another_answer_is_refused_by_name() -> None:
    with pytest.raises(GoldenRunError, match=r"model 'm' version 3: .*output 'y': differs by"):
        verified_golden(engine(), golden([4, 2]))


def test_a_plan_without_one_is_held_to_its_first_answer() -> None:
    found = verified_golden(engine(), None)
    assert found is not None
    assert found.outputs["y"].tolist() == [2, 2]
    assert found.origin == "made up"


def test_a_model_that_runs_on_no_made_up_input_has_none() -> None:
    assert verified_golden(engine(Refusing), None) is None
