"""Chains of plans on the fake TensorRT: what goes from part to part stays on the device."""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence

import numpy as np
import pytest
from fakes.board_setup import use_in_process
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_parts
from edge_runtime.engine.tensorrt import loading
from edge_runtime.engine.tensorrt.chain_memory import CrossingMemory, LentMemory
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.engine.tensorrt.tensor_io import EngineTensor
from edge_runtime.engine.tensorrt.tensor_memory import TensorMemory
from edge_runtime.errors import BackendError, DeviceLostError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.graph.split import split
from edge_runtime.plan.contents import PlanFiles, PlanPart
from edge_runtime.tensors import DType, ShapeRange, Signature

INFO = EngineInfo("m", 1, "tensorrt 10.3.0", "tensorrt_plan", "fp32", "gpu:0", "10.3.0")
PROFILE = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
node = helper.make_node


def net() -> bytes:
    """x f32[n, 4] -> a -> b -> c; y = c + a + x, and a is an output too."""
    nodes = [
        node("Add", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Mul", ["b", "w"], ["c"]),
        node("Add", ["c", "a"], ["d"]),
        node("Add", ["d", "x"], ["y"]),
    ]
    weights = np.arange(4, dtype=np.float32) - 2
    x, y, a = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xya")
    graph = helper.make_graph(nodes, "net", [x], [y, a], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def answer(x: np.ndarray) -> Dict[str, np.ndarray]:
    w = np.arange(4, dtype=np.float32) - 2
    return {"y": np.maximum(x + w, 0) * w + (x + w) + x, "a": x + w}


@pytest.fixture(params=["8.2", "8.6", "10.3", "11.4"])
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = use_in_process(monkeypatch, request.param)
    found.cuda.use_device(0)
    return found


@pytest.fixture
def make_parts(build_plan: Callable[..., bytes]) -> Callable[..., tuple]:
    def make(board: Any, cuts: Sequence[str] = ("b", "c")) -> tuple:
        whole = with_shapes(model_from_bytes(net(), "m"), PROFILE)
        plans = [
            PlanPart(
                PlanFiles({"model.plan": build_plan(board.tensorrt, part.model.serialize(), [part.profile])}),
                Signature(part.model.inputs, part.model.outputs, part.profile),
            )
            for part in split(whole, cuts, PROFILE)
        ]
        return plans, Signature(whole.inputs, whole.outputs, PROFILE)

    return make


@pytest.fixture
def make_chain(make_parts: Callable[..., tuple]) -> Callable[..., Engine]:
    def make(board: Any, **options: Any) -> Engine:
        plans, signature = make_parts(board)
        return engine_from_parts(plans, INFO, signature, EngineOptions(**options))

    return make


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(-5, 5, (n, 4)).astype(np.float32)


@pytest.mark.parametrize("memory", ["copy", "mapped"])
def test_a_chain_answers_at_every_batch_in_any_order(board: Any, make_chain: Any, memory: str) -> None:
    with make_chain(board, memory=memory) as engine:
        assert engine.segment_count == 3
        for n in (3, 8, 1, 3, 3, 3, 5, 8, 1, 3):
            got = engine.infer({"x": rows(n)})
            for name, value in answer(rows(n)).items():
                np.testing.assert_array_equal(got[name], value)
    board.cuda.check_leaks()


def test_each_input_goes_in_once_each_output_comes_out_once_and_nothing_else_is_copied(
    board: Any, make_chain: Any
) -> None:
    with make_chain(board, memory="copy", graphs="off") as engine:
        engine.infer({"x": rows(2)})
        before = board.cuda.counts["copy_async"]
        engine.infer({"x": rows(2)})
        assert board.cuda.counts["copy_async"] - before == 3  # x, y, and a, which is an output and crosses too


def test_nothing_is_allocated_at_shapes_that_were_seen(board: Any, make_chain: Any) -> None:
    with make_chain(board, memory="copy") as engine:
        for _ in range(3):
            engine.infer({"x": rows(5)})
        counts = {name: board.cuda.counts[name] for name in ("allocate_device", "allocate_host")}
        assert all(counts.values())
        engine.infer({"x": rows(5)})
        assert {name: board.cuda.counts[name] for name in counts} == counts


def test_slots_of_a_chain_have_memory_of_their_own(board: Any, make_chain: Any) -> None:
    with make_chain(board, slots=2) as engine, engine.slot() as one, engine.slot() as other:
        for slot, n in ((one, 3), (other, 2)):
            slot.bind("x", (n, 4))[...] = rows(n)
            assert slot.run_segment(0) is None
        for slot, n in ((other, 2), (one, 3)):
            slot.run_segment(1)
            np.testing.assert_array_equal(slot.run_segment(2)["y"], answer(rows(n))["y"])
    board.cuda.check_leaks()


def test_engines_of_parts_are_given_back_if_a_later_one_cannot_be_loaded(board: Any, make_parts: Any) -> None:
    plans, signature = make_parts(board)
    plans[2] = PlanPart(PlanFiles({"model.2.plan": b"no plan"}), plans[2].signature)
    with pytest.raises(BackendError, match=r"model 'm', part 3 of 3: .*can't load the plan"):
        engine_from_parts(plans, INFO, signature, EngineOptions())
    board.cuda.check_leaks()


def test_a_gpu_that_is_lost_in_a_later_part_is_said(board: Any, make_chain: Any) -> None:
    engine = make_chain(board, graphs="off")
    with engine.slot() as slot:
        slot.bind("x", (2, 4))[...] = 0
        slot.run_segment(0)
        board.cuda.fail_next("synchronize_event", 700)
        with pytest.raises(DeviceLostError, match="must be restarted"):
            slot.run_segment(1)
    engine.close()


def test_tensors_are_shared_where_they_lie_on_the_device_in_their_own_type(board: Any, make_parts: Any) -> None:
    plans, _ = make_parts(board)
    makers = loading.part_makers(plans, TensorRTOptions(), "model 'm'")
    assert [makers[0].can_share(name) for name in ("a", "b", "nothing")] == [True, True, False]
    for maker in makers:
        loading._give_back(maker._shared)


@pytest.fixture
def tensor() -> EngineTensor:
    return EngineTensor("t", False, DType.FP32, (-1,), is_host=False)


def test_memory_between_parts_has_an_address_and_no_values(board: Any, tensor: EngineTensor) -> None:
    memory = CrossingMemory(board.cuda, tensor, "m")
    assert [memory.fit(16), memory.fit(16), memory.fit(8)] == [True, False, False]
    assert (memory.capacity, memory.copy(16), memory.view((4,)).shape) == (16, None, (4,))
    with pytest.raises(BackendError, match="20 bytes are more than it takes at the largest inputs"):
        memory.fit(20)
    memory.close()
    memory.close()
    board.cuda.check_leaks()


def test_memory_that_is_lent_stays_where_it_is(board: Any, tensor: EngineTensor) -> None:
    owner = TensorMemory(board.cuda, tensor, DType.FP32, lambda nbytes: "copy", "m")
    owner.fit(16)
    lent = LentMemory(board.cuda, tensor, owner, "m")
    assert [lent.fit(16), lent.fit(16)] == [True, False]
    assert (lent.address, lent.capacity, lent.copy(16)) == (owner.address, 16, None)
    assert lent.view((2,)).ctypes.data == owner.view((2,)).ctypes.data
    for one in (lent, owner):
        with pytest.raises(BackendError, match="more than it takes"):
            one.fit(32)
    lent.close()
    owner.close()
    board.cuda.check_leaks()
