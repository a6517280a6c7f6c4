"""Slots over their user's memory, on ONNX Runtime."""

from __future__ import annotations

import gc
import weakref
from typing import Callable

import numpy as np
import pytest
from fakes.dtypes import PLAIN, onnx_type
from onnx import helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_bytes
from edge_runtime.errors import BackendError, InvalidRequestError
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

LARGE, SMALL = (64, 64), (2, 3)


def onnx_engine(nodes: list, inputs: dict, outputs: dict) -> Engine:
    """An engine whose tensors are given as (type, shape); a dynamic dimension is -1, and 1 to 8 long."""

    def values(tensors: dict) -> list:
        kinds = {name: onnx_type(dtype) for name, (dtype, _) in tensors.items()}
        return [
            helper.make_tensor_value_info(name, kinds[name], [f"d{i}" if n < 0 else n for i, n in enumerate(shape)])
            for name, (_, shape) in tensors.items()
        ]

    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    profile = {
        name: ShapeRange(*(tuple(k if n < 0 else n for n in shape) for k in (1, 1, 8)))
        for name, (_, shape) in inputs.items()
    }
    signature = Signature(
        *(tuple(TensorSpec(name, *tensor) for name, tensor in tensors.items()) for tensors in (inputs, outputs)),
        profile,
    )
    info = EngineInfo("m", 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
    return engine_from_bytes(model.SerializeToString(), info, signature, EngineOptions(threads_per_run=1))


def identity(dtype: DType, shape: tuple) -> Engine:
    return onnx_engine([helper.make_node("Identity", ["x"], ["y"])], {"x": (dtype, shape)}, {"y": (dtype, shape)})


def test_a_run_reads_and_writes_its_users_memory() -> None:
    with identity(DType.FP32, LARGE) as engine:
        memory = {"x": np.zeros(LARGE, np.float32), "y": np.zeros(LARGE, np.float32)}
        slot = engine.slot_over(memory)
        assert slot.bind("x", LARGE) is memory["x"]
        for value in (1.5, 2.5):
            memory["x"].fill(value)
            outputs = slot.run()
            assert outputs["y"] is memory["y"]
            assert (memory["y"] == value).all()
        slot.close()
        slot.close()


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("shape", [LARGE, SMALL])
def test_every_data_type_is_run_over_memory(dtype: DType, shape: tuple) -> None:
    value = np.random.default_rng(0).integers(0, 2, shape).astype(dtype.numpy)
    with identity(dtype, shape) as engine:
        memory = {"x": value.copy(), "y": np.zeros(shape, dtype.numpy)}
        slot = engine.slot_over(memory)
        np.testing.assert_array_equal(slot.run()["y"], value)
        slot.close()


def test_bytes_of_bools_are_made_0_or_1() -> None:
    with identity(DType.BOOL, SMALL) as engine:
        memory = {"x": np.zeros(SMALL, np.uint8), "y": np.zeros(SMALL, np.bool_)}
        memory["x"][:] = [[0, 1, 2], [3, 0, 255]]
        slot = engine.slot_over({**memory, "x": memory["x"].view(np.bool_)})
        slot.run()
        assert memory["y"].view(np.uint8).tolist() == [[0, 1, 1], [1, 0, 1]]
        slot.close()


def test_large_plain_inputs_are_read_where_they_lie_and_all_others_are_copied() -> None:
    """A made-up session changes the inputs during the run, as a client could."""
    kinds = [(d, s) for d in PLAIN for s in (LARGE, SMALL)]
    inputs = {f"{d.value}_{s[0]}": (d, s) for d, s in kinds}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    with onnx_engine(nodes, inputs, {f"{name}_out": tensor for name, tensor in inputs.items()}) as engine:
        memory = {f"{name}{tail}": np.zeros(s, d.numpy) for name, (d, s) in inputs.items() for tail in ("", "_out")}
        slot = engine.slot_over(memory)

        class Changing:
            def __init__(self, session) -> None:
                self.session = session

            def run_with_iobinding(self, binding, *options) -> None:
                for name in inputs:
                    memory[name].fill(1)
                self.session.run_with_iobinding(binding, *options)

        slot._session = Changing(slot._session)
        slot.run()
        seen = {name for name in inputs if memory[f"{name}_out"].any()}
        slot.close()
    assert seen == {f"{name}_64" for name in ("FP16", "FP32", "FP64", "INT8", "UINT8")}


def test_outputs_that_may_be_indices_are_copied_after_the_run() -> None:
    """Other layers may read them. A made-up session writes over the outputs when it ends, as a client could."""
    names = {f"{dtype.value}_x": (dtype, LARGE) for dtype in PLAIN}
    outputs = {name.replace("_x", "_y"): tensor for name, tensor in names.items()}
    nodes = [helper.make_node("Identity", [name], [name.replace("_x", "_y")]) for name in names]
    with onnx_engine(nodes, names, outputs) as engine:
        memory = {name: np.ones(shape, dtype.numpy) for name, (dtype, shape) in {**names, **outputs}.items()}
        slot = engine.slot_over(memory)

        class Changing:
            def __init__(self, session) -> None:
                self.session = session

            def run_with_iobinding(self, binding, *options) -> None:
                self.session.run_with_iobinding(binding, *options)
                for name in outputs:
                    memory[name].fill(0)

        slot._session = Changing(slot._session)
        slot.run()
        kept = {name for name in outputs if memory[name].all()}
        slot.close()
    assert outputs.keys() - kept == {f"{kind}_y" for kind in ("FP16", "FP32", "FP64", "INT8", "UINT8")}


def test_an_output_that_is_an_input_is_the_inputs_memory() -> None:
    tensors = {"x": (DType.FP32, LARGE), "y": (DType.FP32, LARGE)}
    with onnx_engine([helper.make_node("Neg", ["x"], ["y"])], {"x": tensors["x"]}, tensors) as engine:
        memory = {name: np.ones(LARGE, np.float32) for name in tensors}
        slot = engine.slot_over(memory)
        outputs = slot.run()
        assert outputs["x"] is memory["x"]
        assert (memory["y"] == -1).all()
        slot.close()


def test_output_shapes_that_change_with_the_data_are_refused_and_the_slot_lives_on() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    with onnx_engine(nodes, {"x": (DType.FP32, (8,))}, {"y": (DType.INT64, (1, -1))}) as engine:
        memory = {"x": np.zeros(8, np.float32), "y": np.zeros((1, 2), np.int64)}
        slot = engine.slot_over(memory)
        for found in (3, 1):
            memory["x"][:] = np.arange(8) < found
            with pytest.raises(InvalidRequestError, match="depend on the data"):
                slot.run()
        memory["x"][:] = [0, 1, 0, 0, 0, 1, 0, 0]
        assert slot.run()["y"].tolist() == [[1, 5]]
        slot.close()


def test_a_failed_run_is_a_backend_error_and_the_slot_lives_on() -> None:
    inputs = {"x": (DType.FP32, (4,)), "at": (DType.INT64, (1,))}
    with onnx_engine([helper.make_node("Gather", ["x", "at"], ["y"])], inputs, {"y": (DType.FP32, (1,))}) as engine:
        memory = {"x": np.arange(4, dtype=np.float32), "at": np.array([9]), "y": np.zeros(1, np.float32)}
        slot = engine.slot_over(memory)
        with pytest.raises(BackendError, match="the run failed"):
            slot.run()
        memory["at"][0] = 3
        assert slot.run()["y"] == 3
        assert memory["y"] == 3
        slot.close()


def test_another_shape_than_the_memorys_is_refused() -> None:
    with identity(DType.FP32, (-1, 4)) as engine:
        slot = engine.slot_over({name: np.zeros((2, 4), np.float32) for name in "xy"})
        with pytest.raises(InvalidRequestError, match=r"expected shape \[2, 4\], got \[3, 4\]"):
            slot.bind("x", (3, 4))
        slot.close()


def test_a_closed_slot_lets_the_memory_go() -> None:
    with identity(DType.FP32, LARGE) as engine:
        memory = {name: np.zeros(LARGE, np.float32) for name in "xy"}
        gone = [weakref.ref(value) for value in memory.values()]
        slot = engine.slot_over(memory)
        slot.run()
        slot.close()
        memory.clear()
        gc.collect()
        assert [one() for one in gone] == [None, None]


def test_an_engine_whose_backend_has_no_such_slots_says_so(classifier: bytes, make_engine: Callable) -> None:
    with identity(DType.FP32, SMALL) as engine:
        assert engine.slot_over({name: np.zeros(SMALL, np.float32) for name in "xy"}) is not None
    slot = type("Made", (), {"close": lambda self: None})
    with Engine(engine.info, engine.signature, slot, 1) as other:
        assert other.slot_over({}) is None
