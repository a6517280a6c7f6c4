from __future__ import annotations

from typing import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime import onnxruntime_api
from edge_runtime.engine import onnxruntime_layers
from edge_runtime.engine.layers import LayerProfile, ProfileOptions
from edge_runtime.engine.onnxruntime_layers import profile_from_events, profiled_layers
from edge_runtime.errors import BackendError
from edge_runtime.plan.contents import PlanFiles

TWO = ProfileOptions(runs=2, warm_up=1, threads=1)


def profiled(model: bytes, feeds: dict, options: ProfileOptions = TWO) -> LayerProfile:
    return profiled_layers(PlanFiles({"model.onnx": model}), feeds, options, "model 'm'")


def kernel(name: str, ts: int, dur: int, **arguments: object) -> dict:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": ts,
        "dur": dur,
        "args": {"op_name": "Relu", **arguments},
    }


def session(name: str, ts: int, dur: int) -> dict:
    return {"cat": "Session", "name": name, "ts": ts, "dur": dur, "args": {}}


def run(start: int, *kernels: dict) -> list[dict]:
    """A made-up run of 100 us, as ONNX Runtime writes it: what ends first comes first."""
    return [*kernels, session("SequentialExecutor::Execute", start, 90), session("model_run", start, 100)]


def test_fused_layers_are_traced_to_their_nodes_and_timed_once_a_run(classifier: bytes) -> None:
    profile = profiled(classifier, {"x": np.ones((3, 4), np.float32)})
    assert [layer.nodes for layer in profile.layers] == [("hidden", "relu"), ("head",)]
    assert [layer.precision for layer in profile.layers] == ["FP32", "FP32"]
    assert {len(layer.durations_us) for layer in profile.layers} == {2} == {profile.runs}
    assert len(profile.whole_us) == 2
    assert all(
        whole >= sum(parts) for whole, *parts in zip(profile.whole_us, *(e.durations_us for e in profile.layers))
    )


@pytest.mark.parametrize("name", ["cls", "det", "rec", "magika", "minilm"])
def test_real_models_are_traced_but_for_what_was_inserted(real_path: Callable, name: str) -> None:
    data = real_path(name).read_bytes()
    size = {"cls": (1, 3, 48, 192), "det": (1, 3, 64, 96), "rec": (1, 3, 48, 160)}.get(name, ())
    tokens = np.ones((1, 9), np.int64)
    feeds = {
        "magika": {"bytes": np.ones((1, 2048), np.int32)},
        "minilm": {"input_ids": tokens, "attention_mask": tokens},
    }.get(name, {"x": np.zeros(size, np.float32)})
    layers = profiled(data, feeds).layers
    assert {layer.kind for layer in layers if not layer.nodes} <= {"ReorderInput", "ReorderOutput", "Reshape"}
    assert all(layer.precision for layer in layers)


def test_the_time_of_a_subgraph_is_its_nodes(classifier: bytes) -> None:
    def branch(kind: str) -> object:
        output = helper.make_tensor_value_info("o", TensorProto.FLOAT, [2])
        return helper.make_graph([helper.make_node(kind, ["x"], ["o"], name=f"in_{kind}")], kind, [], [output])

    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], name="largest", keepdims=0),
        helper.make_node("Cast", ["m"], ["c"], name="chosen", to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], name="branch", then_branch=branch("Exp"), else_branch=branch("Neg")),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    profile = profiled(model.SerializeToString(), {"x": np.ones(2, np.float32)})
    assert [layer.name for layer in profile.layers] == ["largest", "chosen", "branch"]


def test_warm_up_is_left_out() -> None:
    events = [event for start in (0, 200, 400) for event in run(start, kernel("a", start, 5 + start))]
    profile = profile_from_events(events, TWO, [("a", ("n",))], "m")
    assert profile.layers[0].durations_us == (205.0, 405.0)
    assert profile.whole_starts_us == (200.0, 400.0)


def test_fences_and_other_events_are_no_layers() -> None:
    fence = {"cat": "Node", "name": "a_fence_before", "ts": 200, "dur": 0, "args": {}}
    events = [*run(0), fence, *run(200, kernel("a", 201, 5)), fence, *run(400, kernel("a", 401, 5))]
    assert [layer.name for layer in profile_from_events(events, TWO, [], "m").layers] == ["a"]


def test_a_run_that_was_not_recorded_whole_is_left_out_and_said() -> None:
    whole = (kernel("a", 201, 5), kernel("b", 207, 5))
    events = [*run(0), *run(200, *whole), *run(200, *whole), *run(200, whole[0])]
    profile = profile_from_events(events, ProfileOptions(3, 1, 1), [], "m")
    assert profile.runs == 2
    assert "recorded 2 of 3 runs" in profile.notes[-1]


@pytest.mark.parametrize("events", [[], run(0, kernel("a", 1, 2)), [*run(0), *run(200)]])
def test_a_profile_without_a_timed_layer_is_refused(events: list[dict]) -> None:
    with pytest.raises(BackendError, match="no complete run"):
        profile_from_events(events, TWO, [], "m")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([{"float": [1]}], [{"float": [1]}], "FP32"),
        ([{"int8": [1]}, {"float": []}], [{"float": [1]}], "INT8 to FP32"),
        ([{"float16": [1]}], [{"uint8": [1]}], "FP16 to UINT8"),
        ([], [{"int64": [1]}], "INT64"),
        (None, None, ""),
        ([{}], [{"string": [1]}], "STRING"),
    ],
)
def test_precision_is_the_type_of_what_goes_in_and_comes_out(before: list, after: list, expected: str) -> None:
    timed = kernel("a", 201, 5, input_type_shape=before, output_type_shape=after)
    profile = profile_from_events([*run(0), *run(200, timed)], ProfileOptions(1, 1, 1), [], "m")
    assert profile.layers[0].precision == expected


def test_nodes_are_paired_by_place_where_they_have_no_name_and_by_name_where_counts_differ() -> None:
    events = [*run(0), *run(200, kernel("Relu_0", 201, 5), kernel("b", 207, 5))]
    once = ProfileOptions(1, 1, 1)
    by_place = profile_from_events(events, once, [("", ("n",)), ("b", ("m",))], "m")
    assert [layer.nodes for layer in by_place.layers] == [("n",), ("m",)]
    by_name = profile_from_events(events, once, [("b", ("m",))], "m")
    assert [layer.nodes for layer in by_name.layers] == [(), ("m",)]


def test_a_damaged_profile_is_refused(tmp_path, classifier: bytes) -> None:
    class Session:
        def end_profiling(self) -> str:
            (tmp_path / "p.json").write_text('[{"cat": "Node"')
            return str(tmp_path / "p.json")

    with pytest.raises(BackendError, match="can't be read"):
        onnxruntime_api.end_profiling(Session(), "model 'm'")


def test_no_file_is_left_behind(tmp_path, monkeypatch: pytest.MonkeyPatch, classifier: bytes) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profiled(classifier, {"x": np.ones((1, 4), np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_the_profile_is_said(tmp_path, monkeypatch: pytest.MonkeyPatch, classifier: bytes) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(BackendError, match="no temporary folder"):
        profiled(classifier, {"x": np.ones((1, 4), np.float32)})


def test_weights_apart_are_traced_by_name(monkeypatch: pytest.MonkeyPatch, classifier: bytes) -> None:
    monkeypatch.setattr(onnxruntime_layers, "read_weights", lambda plan, what: {})
    plan = PlanFiles({"model.onnx": classifier, "model.onnx.data": [b""]})
    profile = profiled_layers(plan, {"x": np.ones((1, 4), np.float32)}, TWO, "model 'm'")
    assert "by name only" in profile.notes[-1]
