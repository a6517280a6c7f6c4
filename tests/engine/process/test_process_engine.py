from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from fakes.stored_plans import stored_chain
from onnx import helper

from edge_runtime.engine.process.process_engine import ProcessEngine
from edge_runtime.errors import BackendError, InvalidRequestError, PlanCorruptError, PlanUntrustedError
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.shapes import with_shapes
from edge_runtime.graph.split import split
from edge_runtime.plan.contents import PlanFiles, PlanPart
from edge_runtime.plan.store import StoredPlan
from edge_runtime.tensors import DType, ShapeRange, Signature

Start = Callable[..., ProcessEngine]


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def node(operator: str, inputs: str, outputs: str) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split())


def test_answers_are_right_at_every_batch_in_any_order(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling)
    for n in (3, 8, 1, 3, 5, 8, 1, 1):
        np.testing.assert_array_equal(engine.infer({"x": rows(n, n)})["y"], 2 * rows(n, n))


def test_threads_get_their_own_answers_from_several_slots(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling, slots=3)
    assert engine.slot_count == 3
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda seed: engine.infer({"x": rows(1 + seed % 8, seed)})["y"], range(200)))
    for seed, answer in enumerate(got):
        np.testing.assert_array_equal(answer, 2 * rows(1 + seed % 8, seed))


def mapping_of(address: int) -> str:
    """What a part of this process's memory is a mapping of."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(text, 16) for text in line.split()[0].split("-"))
        if first <= address < last:
            return line.partition("/")[2]
    return ""


def test_inputs_and_outputs_lie_in_memory_that_both_processes_map(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling)
    with engine.slot() as slot:
        for _ in range(3):
            view = slot.bind("x", (2, 4))
            view[:] = 1
            output = slot.run()["y"]
        assert slot.run()["y"] is output  # at shapes that were seen before, nothing is made
    for array in (view, output):
        assert mapping_of(array.__array_interface__["data"][0]).startswith("memfd:tensor")


def test_output_shapes_that_depend_on_the_data_are_followed(start: Start, make_plan: Any) -> None:
    plan = make_plan([node("NonZero", "x", "y")], {"x": (DType.FP32, (64,))}, {"y": (DType.INT64, (1, "found"))})
    engine = start(plan)
    for count in (3, 0, 64, 1, 64, 0, 5):
        x = np.zeros(64, np.float32)
        x[:count] = 1
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], [np.arange(count)])


def test_an_output_that_is_an_input_and_scalars_come_back(start: Start, make_plan: Any) -> None:
    nodes = [node("Identity", "x", "y"), node("Neg", "s", "t")]
    x, s = (DType.FP32, ("batch", 4)), (DType.INT64, ())
    engine = start(make_plan(nodes, {"x": x, "s": s}, {"y": x, "t": s}))
    found = engine.infer({"x": rows(3), "s": np.array(7)})
    np.testing.assert_array_equal(found["y"], rows(3))
    assert (found["t"], found["t"].shape) == (-7, ())


def test_strings_come_and_go_beside_other_tensors(start: Start, make_plan: Any) -> None:
    text, number = (DType.BYTES, ("n",)), (DType.FP32, ("n",))
    nodes = [node("Identity", "text", "echo"), node("Add", "x x", "y")]
    engine = start(make_plan(nodes, {"text": text, "x": number}, {"echo": text, "y": number}))
    for words in ([b"a"], ["é".encode(), b"", b"long" * 100_000], [b""] * 8):
        x = np.arange(len(words), dtype=np.float32)
        found = engine.infer({"text": np.array(words, np.object_), "x": x})
        assert found["echo"].tolist() == words
        np.testing.assert_array_equal(found["y"], 2 * x)
    with pytest.raises(InvalidRequestError, match="element 0 of 1: expected UTF-8"):
        engine.infer({"text": np.array([b"\xff"], np.object_), "x": np.zeros(1, np.float32)})


def chain_plan(root: Path) -> StoredPlan:
    """x f32[n, 4] -> a = -x -> y = a + x, in two parts."""
    nodes = [node("Neg", "x", "a"), node("Abs", "a", "b"), node("Add", "b x", "y")]
    tensors = [helper.make_tensor_value_info(name, 1, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    profile = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
    whole = with_shapes(model_from_bytes(model.SerializeToString(), "m"), profile)
    parts = []
    for index, part in enumerate(split(whole, ["a"], profile)):
        (content,) = part.model.to_files().values()
        files = PlanFiles({"model.onnx" if index == 0 else f"model.{index}.onnx": content})
        parts.append(PlanPart(files, Signature(part.model.inputs, part.model.outputs, part.profile)))
    return stored_chain(root, parts, Signature(whole.inputs, whole.outputs, profile))


def test_a_chain_runs_segment_by_segment(start: Start, tmp_path: Path) -> None:
    engine = start(chain_plan(tmp_path))
    assert engine.segment_count == 2
    for n in (1, 8, 2, 2):
        x = rows(n, n)
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], abs(x) + x)
        with engine.slot() as slot:
            slot.bind("x", x.shape)[:] = x
            assert slot.run_segment(0) is None
            np.testing.assert_array_equal(slot.run_segment(1)["y"], abs(x) + x)


def test_a_segment_out_of_turn_is_refused_as_ever(start: Start, tmp_path: Path) -> None:
    with start(chain_plan(tmp_path)).slot() as slot:
        slot.bind("x", (1, 4))[:] = 1
        with pytest.raises(BackendError, match="expected segment 0"):
            slot.run_segment(1)


def test_a_damaged_plan_is_refused_as_ever(start: Start, doubling: StoredPlan) -> None:
    doubling.plan_path.write_bytes(doubling.plan_path.read_bytes()[:-1] + b"?")
    with pytest.raises(PlanCorruptError, match=r"expected .* with sha256"):
        start(doubling)


def test_a_run_that_fails_says_why_and_the_next_one_is_right(start: Start, make_plan: Any) -> None:
    inputs = {"x": (DType.FP32, (4,)), "at": (DType.INT64, (1,))}
    engine = start(make_plan([node("Gather", "x at", "y")], inputs, {"y": (DType.FP32, (1,))}))
    x = np.arange(4, dtype=np.float32)
    with pytest.raises(BackendError, match="the run failed"):
        engine.infer({"x": x, "at": np.array([9])})
    assert engine.infer({"x": x, "at": np.array([2])})["y"].tolist() == [2]
    assert sum(engine.keeper.restarts.values()) == 0


def test_nothing_runs_over_its_users_memory_and_nothing_in_a_closed_engine(start: Start, doubling: StoredPlan) -> None:
    engine = start(doubling)
    assert engine.slot_over({"x": rows(1), "y": rows(1)}) is None
    engine.close()
    engine.close()
    assert engine.pid is None
    with pytest.raises(BackendError, match="is closed"):
        engine.infer({"x": rows(1)})


def test_a_process_that_ends_while_it_loads_is_told_with_its_last_words(start: Start, doubling: StoredPlan) -> None:
    code = "import os, sys; print('out of cheese', file=sys.stderr, flush=True); os.abort()"
    with pytest.raises(BackendError, match=r"model 'm': its process was ended by SIGABRT \(out of cheese\)"):
        start(doubling, command=(sys.executable, "-c", code))


def test_a_command_that_is_not_there_is_told(start: Start, doubling: StoredPlan) -> None:
    with pytest.raises(BackendError, match=r"can.t be started .No such file"):
        start(doubling, command=("/nowhere/python",))


def test_what_is_asked_of_signatures_is_asked_of_it_too(
    start: Start, doubling: StoredPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__REQUIRE_SIGNED", "true")
    with pytest.raises(PlanUntrustedError, match="sign"):
        start(doubling)
