"""Builds of models in parts on ONNX Runtime, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edge_runtime
from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.calibrate import calibrate
from edge_runtime.builder.recipe import load_recipe, make_recipe
from edge_runtime.builder.trial import Trial
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.profiling import profile_layers
from edge_runtime.errors import BackendError, ConfigError, PlanCorruptError, UnsupportedModelError
from edge_runtime.evaluation.latency import LatencyRatio

Build = Callable[..., BuiltPlan]
ENGINES = Path(__file__).parents[2] / "engines"
BLOCKS = ["elementwise_add_0", "elementwise_add_4"]


@pytest.fixture
def make(tmp_path: Path, classifier: bytes) -> Build:
    """Builds the classifier, whose hidden layer ends with the tensor `r`."""
    (tmp_path / "m.onnx").write_bytes(classifier)
    rows = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    np.savez(tmp_path / "c.npz", x=rows[:100])
    np.savez(tmp_path / "h.npz", x=rows[100:])

    def built(policy: str, split: List[str], again: bool = False, **tables: Any) -> BuiltPlan:
        content: Dict[str, Any] = {
            "model": {"path": "m.onnx", "split": split},
            "calibration": {"data": "c.npz"},
            "held_out": {"data": "h.npz"},
            "precision": {"policy": policy},
            "gate": {"latency_budget_s": 0.05, "max_drop": 0.1},
        }
        for name, table in tables.items():
            content[name] = {**content.get(name, {}), **table}
        options = BuildOptions(tmp_path / "engines", tmp_path / "calib_cache", again=again)
        return build(make_recipe(content, "m", tmp_path, environ={}), options)

    return built


def answers(plan: BuiltPlan, feeds: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    with edge_runtime.load(plan) as engine:
        return engine.infer(feeds)


@pytest.mark.parametrize(("policy", "rtol"), [("fp32", 0), ("fp16", 5e-3), ("int8", 1e-2)])
def test_a_split_plan_is_a_chain_that_answers_as_the_whole_does(make: Build, policy: str, rtol: float) -> None:
    whole, plan = make(policy, []), make(policy, ["r"])
    chain = plan.manifest.chain
    assert chain is not None
    assert whole.manifest.chain is None
    assert (chain.split, [part.plan.file for part in chain.parts]) == (["r"], ["model.onnx", "model.1.onnx"])
    assert (whole.manifest.schema_version, plan.manifest.schema_version) == (1, 2)
    x = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    expected = answers(whole, {"x": x})["scores"]
    np.testing.assert_allclose(answers(plan, {"x": x})["scores"], expected, rtol=0, atol=rtol * abs(expected).max())


def test_candidates_and_scores_are_those_of_the_whole(make: Build) -> None:
    found = [make("int8", split).manifest.candidates for split in ([], ["r"])]
    first, second = ([(one.name, one.metric, one.verdict) for one in candidates] for candidates in found)
    assert [name for name, _, _ in first] == [name for name, _, _ in second]
    for (_, one, _), (_, other, _) in zip(first, second):
        assert one is not None
        assert other is not None
        assert one.value == pytest.approx(other.value, rel=1e-4)


def test_the_gate_tries_the_chain_as_it_will_run(make: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    segments: List[int] = []
    measured = Trial._quality

    def seen(trial: Trial, candidate: Any, engine: Any) -> Any:
        segments.append(engine.segment_count)
        return measured(trial, candidate, engine)

    monkeypatch.setattr(Trial, "_quality", seen)
    manifest = make("auto", ["r"]).manifest
    assert set(segments) == {2}
    assert len(segments) == len(manifest.candidates)  # the float model too
    assert manifest.candidates[0].verdict in ("passed", "chosen")


def test_what_the_split_costs_is_told_and_recorded(make: Build) -> None:
    manifest = make("fp32", ["r"]).manifest
    assert manifest.chain is not None
    latency = manifest.chain.latency
    assert latency is not None
    assert (latency.against, latency.low <= latency.ratio <= latency.high) == ("the whole", True)
    (note,) = [note for note in manifest.notes if note.startswith("split into 2 plans at r: latency ")]
    assert f"{latency.ratio:.2f}" in note


@pytest.mark.parametrize(("low", "is_dear"), [(1.0, False), (1.3, True)])
def test_a_dear_split_comes_with_a_remedy(
    make: Build, monkeypatch: pytest.MonkeyPatch, low: float, is_dear: bool
) -> None:
    monkeypatch.setattr(Trial, "split_latency", lambda *_: LatencyRatio(1.4, low, 1.5))
    note = make("fp32", ["r"]).manifest.notes[-1]
    assert note.endswith("of the plan uncut" + ("; cut it between blocks, or less often" if is_dear else ""))


def test_a_cost_that_cannot_be_measured_stops_nothing(make: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:  # a made-up fault
        raise BackendError("no memory for both")

    monkeypatch.setattr(Trial, "split_latency", fail)
    manifest = make("fp32", ["r"]).manifest
    assert manifest.chain is not None
    assert manifest.chain.latency is None
    assert manifest.notes[-1].endswith("latency against the plan uncut not measured: no memory for both")


def test_the_split_is_part_of_the_key(make: Build) -> None:
    first = make("fp32", ["r"])
    assert make("fp32", ["r"]).is_reused
    keys = {
        plan.manifest.build_key for plan in (first, make("fp32", []), make("fp32", ["h"]), make("fp32", ["h", "r"]))
    }
    assert len(keys) == 4
    again = make("fp32", ["r"])
    assert (again.is_reused, again.folder) == (True, first.folder)


def test_a_damaged_part_is_refused_before_any_is_loaded_and_built_again(
    make: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make("fp32", ["r"])
    plan.plan_paths[1].write_bytes(b"damaged")
    with monkeypatch.context() as patched:
        patched.setattr("edge_runtime.engine.onnxruntime.load_session", lambda *_: pytest.fail("loaded"))
        with pytest.raises(PlanCorruptError, match=r"model\.1\.onnx: expected"):
            edge_runtime.load(plan)
    assert make("fp32", ["r"]).manifest.version == 2


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (["R"], "split 'R': .* has no tensor of that name: it can be cut at h, r$"),
        (["scores"], "'scores': .*is an output of the model; the nearest that it can be cut at is 'r'"),
        (["r", "h"], "'h': .* makes it before 'r'"),
        (["r", "r"], "expected names of tensors, each once"),
        ([""], "expected names of tensors, each once"),
    ],
)
def test_a_split_that_cannot_be_is_refused_before_anything_is_measured(
    make: Build, tmp_path: Path, split: List[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make("int8", split)
    assert not (tmp_path / "calib_cache").exists()


def save(path: Path, nodes: List[onnx.NodeProto], weights: Dict[str, np.ndarray], opset: int = 13) -> None:
    """A net x f32[n, 4] -> y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", None])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))


def test_a_cut_within_the_models_own_q_and_dq_is_moved_and_said(make: Build, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="dq"),
        helper.make_node("MatMul", ["d", "w"], ["y"], name="product"),
    ]
    weights = {"s": np.float32(0.1), "z": np.int8(0), "w": np.eye(4, dtype=np.float32)}
    save(tmp_path / "m.onnx", nodes, weights)
    manifest = make("fp32", ["q"]).manifest
    assert manifest.chain is not None
    assert manifest.chain.split == ["a"]
    assert any(
        "'q' lies between QuantizeLinear and DequantizeLinear: the model is cut at 'a'" in n for n in manifest.notes
    )


def test_a_tensor_whose_shape_its_data_decides_cannot_cross(make: Build, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="where"),
        helper.make_node("Cast", ["places"], ["y"], name="cast", to=TensorProto.FLOAT),
    ]
    save(tmp_path / "m.onnx", nodes, {})
    with pytest.raises(UnsupportedModelError, match="lets tensor 'places' go from one part to another, and its shape"):
        make("fp32", ["places"])


def test_calibrating_is_the_same_with_and_without_a_split(make: Build, tmp_path: Path) -> None:
    tables = {"calibration": {"data": "c.npz"}, "held_out": {"data": "h.npz"}}
    found = [
        calibrate(
            make_recipe({"model": {"path": "m.onnx", **model}, **tables}, "m", tmp_path, environ={}), tmp_path / "c"
        )
        for model in ({}, {"split": ["r"]})
    ]
    assert found[0].folder == found[1].folder
    assert found[1].is_reused


def test_layers_of_all_parts_are_timed(make: Build) -> None:
    profile = profile_layers(make("fp32", ["r"]), {"x": np.ones((2, 4), np.float32)}, ProfileOptions(3, 1, 1))
    assert [node for layer in profile.layers for node in layer.nodes] == ["hidden", "relu", "head"]
    assert (profile.runs, len(profile.whole_us), profile.whole_starts_us) == (3, 3, ())
    assert profile.notes[0] == "the model is split into 2 plans of 1, 1 layers, which were timed one after the other"


NO_DATA = {"calibration": {"data": None}, "held_out": {"data": None}, "metric": {"name": None}}


@pytest.mark.parametrize(
    ("policy", "tables"), [("fp32", NO_DATA), pytest.param("int8", {}, marks=pytest.mark.slow)], ids=["fp32", "int8"]
)
def test_a_real_net_in_parts_gives_the_bits_of_the_whole(
    tmp_path: Path, real_path: Callable[[str], Path], policy: str, tables: Dict[str, Any]
) -> None:
    real_path("cls")
    options = BuildOptions(tmp_path / "engines", tmp_path / "calib_cache")

    def built(split: List[str]) -> BuiltPlan:
        flags = {"model": {"split": split}, "precision": {"policy": policy}, "gate": {"latency_budget_s": 0.1}}
        return build(load_recipe(ENGINES / "text-direction.toml", {**flags, **tables}, environ={}), options)

    with edge_runtime.load(built([])) as whole, edge_runtime.load(built(BLOCKS)) as chain:
        assert chain.segment_count == 3
        for n in (1, 3, 16):
            x = np.random.default_rng(n).normal(size=(n, 3, 48, 192)).astype(np.float32)
            for name, value in whole.infer({"x": x}).items():
                np.testing.assert_array_equal(chain.infer({"x": x})[name], value)
