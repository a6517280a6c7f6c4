from __future__ import annotations

import itertools
import math
from typing import Any, Iterator

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.sensitivity import SensitivityOptions, group_errors
from edge_runtime.engine.engine import EngineInfo
from edge_runtime.graph.groups import groups
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.tensors import ShapeRange


def two_layers(output: str = "y") -> FloatModel:
    """x[n, 8] -> y[n, 8] through two products, and the class of y."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], "second"),
        helper.make_node("ArgMax", ["y"], ["class"], "argmax", axis=1),
    ]
    kinds = {"y": TensorProto.FLOAT, "class": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info(output, kinds[output], None)],
        [numpy_helper.from_array(rng.normal(size=(8, 8)).astype(np.float32), name) for name in ("w1", "w2")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    info = EngineInfo("m", 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
    profile = {"x": ShapeRange((1, 8), (4, 8), (64, 8))}
    return FloatModel(model_from_bytes(model.SerializeToString(), "m"), profile, info)


def feeds(count: int = 4) -> Iterator[Any]:
    rng = np.random.default_rng(1)
    return ({"x": rng.normal(size=(64, 8)).astype(np.float32)} for _ in range(count))


def test_a_group_with_a_coarser_scale_makes_a_larger_error() -> None:
    model = two_layers()
    fine = {one.group: one.error for one in group_errors(model, {"x": 0.03, "r": 0.1}, groups(model.graph), feeds())}
    coarse = {one.group: one.error for one in group_errors(model, {"x": 0.03, "r": 2.0}, groups(model.graph), feeds())}
    assert 0 < fine["first"] == pytest.approx(coarse["first"])
    assert fine["second"] < coarse["second"] / 100


def test_of_classes_the_share_that_changes_is_the_error() -> None:
    model = two_layers("class")
    errors = group_errors(model, {"x": 1.0, "r": 3.0}, groups(model.graph), feeds())
    assert all(0 < one.error < 1 for one in errors)


def test_answers_that_are_no_numbers_are_an_error_without_bound() -> None:
    model = two_layers()
    bad = [{"x": np.full((2, 8), np.nan, np.float32)}]
    assert {one.error for one in group_errors(model, {"x": 0.03, "r": 0.1}, groups(model.graph), bad)} == {math.inf}


@pytest.mark.parametrize(("budget_s", "max_samples", "expected"), [(0.0, 16, 1), (1e9, 3, 3), (2.5, 16, 3)])
def test_samples_are_taken_until_the_budget_is_spent(budget_s: float, max_samples: int, expected: int) -> None:
    taken = []

    def counted() -> Iterator[Any]:
        for each in feeds(9):
            taken.append(each)
            yield each

    model = two_layers()
    seconds = itertools.count()
    options = SensitivityOptions(budget_s, max_samples, clock=lambda: float(next(seconds)))
    group_errors(model, {"x": 0.03, "r": 0.1}, groups(model.graph), counted(), options)
    assert len(taken) - 1 == expected  # the one after the last is read, and left
