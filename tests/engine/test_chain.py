from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.engine import onnxruntime as backend
from edge_runtime.engine.chain import ChainPart, ChainSlot, Links, chain_slot_maker
from edge_runtime.engine.engine import Engine, EngineInfo
from edge_runtime.engine.loading import EngineOptions, engine_from_parts
from edge_runtime.errors import BackendError, InvalidRequestError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.graph.split import split
from edge_runtime.plan.contents import PlanFiles, PlanPart
from edge_runtime.tensors import DType, ShapeRange, Signature, TensorSpec

INFO = EngineInfo("m", 1, "onnxruntime", "onnxruntime_onnx", "fp32", "cpu")
PROFILE = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
node = helper.make_node


def net() -> bytes:
    """x f32[n, 4] -> a -> b -> c; y = c + a + x, and a is an output too."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "w"], ["c"]),
        node("Add", ["c", "a"], ["d"]),
        node("Add", ["d", "x"], ["y"]),
    ]
    weights = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    x, y, a = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xya")
    graph = helper.make_graph(nodes, "net", [x], [y, a], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def parts_of(model: bytes, cuts: Sequence[str]) -> tuple:
    """The parts of a model as plans, and the signature of the whole."""
    whole = with_shapes(model_from_bytes(model, "m"), PROFILE)
    plans = [
        PlanPart(PlanFiles(part.model.to_files()), Signature(part.model.inputs, part.model.outputs, part.profile))
        for part in split(whole, cuts, PROFILE)
    ]
    return plans, Signature(whole.inputs, whole.outputs, PROFILE)


@pytest.fixture
def make_chain() -> Callable[..., Engine]:
    def make(model: bytes, cuts: Sequence[str], slots: int = 1) -> Engine:
        plans, signature = parts_of(model, cuts)
        return engine_from_parts(plans, INFO, signature, EngineOptions(slots=slots))

    return make


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def expected(model: bytes, x: np.ndarray) -> List[np.ndarray]:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})


@pytest.mark.parametrize("cuts", [["b"], ["c"], ["b", "c"], ["b", "c", "d"]])
def test_a_chain_answers_as_the_whole_at_every_batch_in_any_order(make_chain: Any, cuts: List[str]) -> None:
    with make_chain(net(), cuts) as engine:
        assert engine.segment_count == len(cuts) + 1
        for n in (3, 8, 1, 3, 5, 8, 1, 3):
            x = rows(n, seed=n)
            got = engine.infer({"x": x})
            for name, value in zip(("y", "a"), expected(net(), x)):
                np.testing.assert_array_equal(got[name], value)


def test_segments_run_one_by_one_and_the_last_one_answers(make_chain: Any) -> None:
    x = rows(3)
    with make_chain(net(), ["b", "c"], slots=2) as engine, engine.slot() as slot, engine.slot() as other:
        for used in (slot, other):
            used.bind("x", x.shape)[...] = x
        assert [slot.run_segment(0), slot.run_segment(1)] == [None, None]
        other.bind("x", (1, 4))[...] = 0
        other.run()  # another request in between
        np.testing.assert_array_equal(slot.run_segment(2)["y"], expected(net(), x)[0])


def test_a_run_that_was_left_is_begun_anew_and_no_part_is_skipped(make_chain: Any) -> None:
    x = rows(2)
    with make_chain(net(), ["b", "c"]) as engine, engine.slot() as slot:
        slot.bind("x", x.shape)[...] = x
        slot.run_segment(0)
        with pytest.raises(BackendError, match="expected segment 1 of a run or the first one, got 2"):
            slot.run_segment(2)
        np.testing.assert_array_equal(slot.run()["y"], expected(net(), x)[0])
        with pytest.raises(BackendError, match="expected segment 0"):
            slot.run_segment(1)


def test_an_engine_that_is_no_chain_has_one_segment_and_no_run_segment(
    classifier: bytes, make_engine: Callable[..., Engine]
) -> None:
    with make_engine(classifier, PROFILE, {"scores": (-1, 3)}) as engine, engine.slot() as slot:
        assert engine.segment_count == 1
        assert not hasattr(slot, "run_segment")


def test_tensors_go_from_part_to_part_where_they_lie(make_chain: Any) -> None:
    with make_chain(net(), ["b", "c"]) as engine, engine.slot() as slot:
        first, second, third = slot._slots
        for n in (2, 5, 2):
            slot.bind("x", (n, 4))[...] = rows(n)
            slot.run()
            made = slot._made
            assert made["b"].ctypes.data == second.bind("b", (n, 4)).ctypes.data
            assert made["a"].ctypes.data == third.bind("a", (n, 4)).ctypes.data
            assert made["c"].ctypes.data == third.bind("c", (n, 4)).ctypes.data
            assert first.bind("x", (n, 4)).ctypes.data == third.bind("x", (n, 4)).ctypes.data


def test_nothing_is_allocated_at_shapes_that_were_seen(make_chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_chain(net(), ["b", "c"]) as engine:
        for _ in range(2):  # the first run finds the shapes, the second one makes room for the outputs
            engine.infer({"x": rows(3)})
        monkeypatch.setattr(backend.OnnxRuntimeSlot, "_run_allocating", lambda *_: pytest.fail("allocated"))
        monkeypatch.setattr(backend, "_allocated", lambda *_: pytest.fail("allocated"))
        with engine.slot() as slot:
            addresses = set()
            for _ in range(3):
                slot.bind("x", (3, 4))[...] = rows(3)
                addresses.add(slot.run()["y"].ctypes.data)
    assert len(addresses) == 1


def test_feeds_are_checked_as_those_of_the_whole(make_chain: Any) -> None:
    with make_chain(net(), ["b"]) as engine:
        with pytest.raises(InvalidRequestError, match="batch 9 is over max_batch_size 8"):
            engine.infer({"x": rows(9)})
        with pytest.raises(InvalidRequestError, match="unknown input 'b'; valid: x"):
            engine.infer({"x": rows(1), "b": rows(1)})
        assert engine.slot_over({}) is None


def test_a_closed_chain_is_closed_and_may_be_again(make_chain: Any) -> None:
    engine = make_chain(net(), ["b"])
    with engine.slot() as slot:
        pass
    engine.close()
    engine.close()
    slot.close()
    with pytest.raises(BackendError, match="closed"):
        engine.infer({"x": rows(1)})


def test_a_part_that_cannot_be_loaded_names_itself(make_chain: Any) -> None:
    plans, signature = parts_of(net(), ["b"])
    broken = [plans[0], PlanPart(PlanFiles({"model.1.onnx": b"no model"}), plans[1].signature)]
    with pytest.raises(BackendError, match="model 'm', part 2 of 2: ONNX Runtime can't load it"):
        engine_from_parts(broken, INFO, signature, EngineOptions())


class Slot:
    """A made-up part's slot, with memory of its own: `calls` tells what became of it."""

    def __init__(self, calls: List[str], answer: Dict[str, np.ndarray]) -> None:
        self.calls = calls
        self.answer = answer
        self.bound: Dict[str, np.ndarray] = {}

    def bind(self, name: str, shape: tuple) -> np.ndarray:
        return self.bound.setdefault(name, np.zeros(shape, np.float32))

    def memory_of(self, name: str) -> Any:
        return pytest.fail(f"{name} isn't shared")

    def run(self) -> Dict[str, np.ndarray]:
        return self.answer

    def close(self) -> None:
        self.calls.append("closed")


class Maker:
    """Makes slots whose tensors can't be shared; `problem` is what making one raises."""

    def __init__(self, answer: Dict[str, np.ndarray], problem: str = "") -> None:
        self.calls: List[str] = []
        self.slots: List[Slot] = []
        self.answer = answer
        self.problem = problem

    def can_share(self, name: str) -> bool:
        return False

    def linked(self, links: Links) -> Slot:
        assert links == Links({}, {}, frozenset())
        if self.problem:
            raise BackendError(self.problem)
        self.slots.append(Slot(self.calls, self.answer))
        return self.slots[-1]


def made_up(makers: Sequence[Maker]) -> Callable[[], ChainSlot]:
    """x -> a (first part); a, x -> y (second part); of 1 to 2 elements."""
    x, a, y = (TensorSpec(name, DType.FP32, (-1,)) for name in "xay")
    limits = ShapeRange((1,), (1,), (2,))
    signatures = [Signature((x,), (a,), {"x": limits}), Signature((x, a), (y,), {"x": limits, "a": limits})]
    parts = [ChainPart(maker, signature) for maker, signature in zip(makers, signatures)]
    return chain_slot_maker(parts, Signature((x,), (y,), {"x": limits}), "model 'm'")


def test_tensors_that_cannot_be_shared_are_copied() -> None:
    makers = [Maker({"a": np.array([3, 4], np.float32)}), Maker({"y": np.ones(2, np.float32)})]
    slot = made_up(makers)()
    slot.bind("x", (2,))[...] = [1, 2]
    slot.run()
    bound = makers[1].slots[0].bound
    assert {name: value.tolist() for name, value in bound.items()} == {"x": [1, 2], "a": [3, 4]}


def test_a_tensor_beyond_the_next_parts_profile_is_an_error() -> None:
    slot = made_up([Maker({"a": np.zeros(3, np.float32)}), Maker({})])()
    slot.bind("x", (1,))
    with pytest.raises(
        BackendError, match=r"tensor 'a' goes from one part to another: expected shape 1..1..2, got \[3\]"
    ):
        slot.run()


def test_slots_of_parts_are_given_back_if_a_later_one_fails() -> None:
    first = Maker({})
    with pytest.raises(BackendError, match="no memory"):
        made_up([first, Maker({}, "no memory")])()
    assert first.calls == ["closed"]
