"""Strings and BF16 on ONNX Runtime."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from fakes.dtypes import HAS_BFLOAT16, onnx_type
from onnx import helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.engine.onnxruntime_layers import profiled_layers
from edge_runtime.errors import BackendError, InvalidRequestError
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.tensors import (
    DType,
    ShapeRange,
    Signature,
    TensorSpec,
    bfloat16_from_float32,
    filled,
    float32_from_bfloat16,
)

TEXT, NUMBER, HALF = (DType.BYTES, (-1,)), (DType.FP32, (-1,)), (DType.BF16, (-1, 2))
PARSE = [helper.make_node("Cast", ["text"], ["number"], to=1)]
ONCE = ProfileOptions(runs=3, warm_up=1, threads=1)
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this onnxruntime can't be given BF16")


def values(tensors: dict) -> list:
    return [
        helper.make_tensor_value_info(name, onnx_type(dtype), ["n", *shape[1:]])
        for name, (dtype, shape) in tensors.items()
    ]


def model(nodes: list, inputs: dict, outputs: dict) -> bytes:
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def engine(nodes: list, inputs: dict, outputs: dict, **options: Any) -> Engine:
    limits = {name: ShapeRange(*((rows, *shape[1:]) for rows in (1, 2, 8))) for name, (_, shape) in inputs.items()}
    specs = [
        tuple(TensorSpec(name, dtype, shape, ("n", *[""] * (len(shape) - 1))) for name, (dtype, shape) in each.items())
        for each in (inputs, outputs)
    ]
    info = EngineInfo("m", 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
    return engine_from_bytes(model(nodes, inputs, outputs), info, Signature(*specs, limits), EngineOptions(**options))


def identity(kind: tuple, **options: Any) -> Engine:
    return engine([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind}, **options)


def strings(*elements: Any) -> np.ndarray:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


@pytest.mark.parametrize("elements", [[b"a"], [b"", "é\0".encode()], [b"\0"] * 8])
def test_strings_are_bytes_on_both_sides(elements: list) -> None:
    with identity(TEXT, slots=2) as made:
        for _ in range(2):
            assert made.infer({"x": strings(*elements)})["y"].tolist() == elements


def test_strings_and_numbers_are_made_of_each_other() -> None:
    nodes = [*PARSE, helper.make_node("Cast", ["number"], ["again"], to=8)]
    with engine(nodes, {"text": TEXT}, {"number": NUMBER, "again": TEXT}) as made:
        outputs = made.infer({"text": strings(b"2.5", b"-1")})
        assert (outputs["number"].tolist(), outputs["again"].tolist()) == ([2.5, -1], [b"2.5", b"-1"])


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (b"a\xe9", "expected UTF-8, got byte 0xe9 at 1"),
        (b"\xed\xa0\x80", "expected UTF-8"),
        ("a", r"expected bytes, got str; text has encode\(\)"),
        (None, "expected bytes, got NoneType"),
    ],
)
def test_what_is_no_text_is_refused_by_input_and_element(bad: Any, text: str) -> None:
    with identity(TEXT) as made, pytest.raises(InvalidRequestError, match=f"input 'x': element 1 of 2: {text}"):
        made.infer({"x": strings(b"ok", bad)})


def test_a_run_that_fails_is_told_with_the_librarys_text_and_survived() -> None:
    with engine(PARSE, {"text": TEXT}, {"number": NUMBER}) as made:
        with pytest.raises(BackendError, match="the run failed"):
            made.infer({"text": strings(b"one")})
        assert made.infer({"text": strings(b"1")})["number"].tolist() == [1]


def test_a_model_that_can_not_run_on_empty_strings_is_warmed_up_on_ones(caplog: pytest.LogCaptureFixture) -> None:
    with engine(PARSE, {"text": TEXT}, {"number": NUMBER}):
        assert "not warmed up" not in caplog.text


def test_strings_lie_in_nobodys_memory() -> None:
    with identity(TEXT) as made:
        assert made.slot_over({"x": strings(b"a"), "y": strings(b"")}) is None


def test_a_closed_slot_holds_no_session() -> None:
    made = identity(TEXT)
    slot = weakref.ref(made._slots[0]._session)
    made.close()
    del made
    gc.collect()
    assert slot() is None


def test_layers_of_strings_are_timed() -> None:
    data = model(PARSE, {"text": TEXT}, {"number": NUMBER})
    profile = profiled_layers(PlanFiles({"model.onnx": data}), {"text": strings(b"1")}, ONCE, "m")
    assert ([layer.kind for layer in profile.layers], profile.runs) == (["Cast"], 3)


TWICE = [
    helper.make_node("Cast", ["x"], ["wide"], to=1),
    helper.make_node("Add", ["wide", "wide"], ["twice"]),
    helper.make_node("Cast", ["twice"], ["y"], to=16),
]


@needs_bfloat16
def test_bfloat16_is_run_in_the_slots_memory_and_learnt_shapes() -> None:
    with engine(TWICE, {"x": HALF}, {"y": HALF}) as made:
        for rows in (1, 3, 3, 1):
            value = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
            output = made.infer({"x": bfloat16_from_float32(value)})["y"]
            np.testing.assert_array_equal(float32_from_bfloat16(output), value * 2)


@needs_bfloat16
def test_bfloat16_is_run_over_its_users_memory() -> None:
    with engine(TWICE, {"x": HALF}, {"y": HALF}) as made:
        memory = {"x": filled((4, 2), DType.BF16, 1), "y": filled((4, 2), DType.BF16, 0)}
        slot = made.slot_over(memory)
        assert float32_from_bfloat16(slot.run()["y"]).tolist() == [[2, 2]] * 4
        slot.close()


@needs_bfloat16
def test_layers_of_bfloat16_are_timed() -> None:
    plan, feeds = (
        PlanFiles({"model.onnx": model(TWICE, {"x": HALF}, {"y": HALF})}),
        {"x": filled((1, 2), DType.BF16, 1)},
    )
    assert profiled_layers(plan, feeds, ONCE, "m").runs == 3


@needs_bfloat16
def test_numbers_of_another_type_are_no_bfloat16() -> None:
    with engine(TWICE, {"x": HALF}, {"y": HALF}) as made, pytest.raises(InvalidRequestError, match="got UINT16"):
        made.infer({"x": np.zeros((1, 2), np.uint16)})


@needs_bfloat16
def test_strings_and_bfloat16_in_one_model_are_refused() -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["h"], ["z"])]
    with pytest.raises(BackendError, match="tensors of BYTES and of BF16"):
        engine(nodes, {"x": TEXT, "h": HALF}, {"y": TEXT, "z": HALF})
