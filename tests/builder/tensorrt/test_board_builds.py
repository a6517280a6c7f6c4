"""Whole builds on fake boards: what TensorRT is asked for, what is published, and that it runs."""

from __future__ import annotations

import mmap
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import onnx
import pytest
from fakes.board_machine import NANO, ORIN, PC, XAVIER, use_machine
from fakes.tensorrt import plan_model, plan_record

import edge_runtime
from edge_runtime.builder import job
from edge_runtime.builder.builder import BuildOptions, BuiltPlan, build
from edge_runtime.builder.recipe import make_recipe
from edge_runtime.builder.tensorrt.attempts import Attempts
from edge_runtime.builder.tensorrt.build_plan import OutOfMemoryError
from edge_runtime.builder.tensorrt.ladder import Rung
from edge_runtime.builder.tensorrt.network import ParseError
from edge_runtime.builder.tensorrt.workshop import work_folder
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.device.power_mode import PowerMode
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.profiling import profile_layers
from edge_runtime.errors import BackendError, ConfigError, EdgeRuntimeError, PlanTargetError, UnsupportedModelError
from edge_runtime.plan.board import Gpu
from edge_runtime.plan.manifest import CandidateRecord
from edge_runtime.tensors import DType

Build = Callable[..., BuiltPlan]


class Workshop:
    """The classifier, its data, and builds of it on one board."""

    def __init__(self, folder: Path, model: bytes) -> None:
        self.folder = folder
        (folder / "m.onnx").write_bytes(model)
        rows = np.random.default_rng(1).normal(size=(128, 4)).astype(np.float32)
        np.savez(folder / "c.npz", x=rows[:64])
        np.savez(folder / "h.npz", x=rows[64:])

    def build(self, policy: str, again: bool = False, **tables: Any) -> BuiltPlan:
        content: Dict[str, Any] = {
            "model": {"path": "m.onnx"},
            "calibration": {"data": "c.npz"},
            "held_out": {"data": "h.npz"},
            "precision": {"policy": policy},
            "gate": {"latency_budget_s": 0.05},
        }
        for name, table in tables.items():
            content[name] = {**content.get(name, {}), **table}
        options = BuildOptions(self.folder / "engines", self.folder / "calib_cache", again=again)
        return build(make_recipe(content, "m", self.folder, environ={}), options)


@pytest.fixture
def workshop(tmp_path: Path, classifier: bytes) -> Workshop:
    return Workshop(tmp_path, classifier)


def asked(plan: BuiltPlan) -> Dict[str, Any]:
    return plan_record(plan.read_plan())


def ops(plan: BuiltPlan) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(plan_model(plan.read_plan())).graph.node}


def candidate(plan: BuiltPlan, name: str) -> CandidateRecord:
    return next(record for record in plan.manifest.candidates if record.name.startswith(name))


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes this machine a board with the TensorRT of a surface: by default an Orin on JetPack 6."""

    def made(surface: str = "10.3", device: DeviceInfo = ORIN, **settings: Any) -> None:
        use_machine(monkeypatch, tmp_path / "board", surface, device, **settings)

    return made


@pytest.mark.parametrize(
    ("surface", "device", "policy", "form"),
    [
        pytest.param("8.2", NANO, "fp16", "weak", marks=pytest.mark.slow),
        ("8.2", XAVIER, "int8", "implicit"),
        pytest.param("8.4", XAVIER, "int8", "implicit", marks=pytest.mark.slow),
        pytest.param("8.5", ORIN, "int8", "qdq", marks=pytest.mark.slow),
        pytest.param("8.6", ORIN, "fp16", "weak", marks=pytest.mark.slow),
        ("8.6", ORIN, "int8", "qdq"),
        pytest.param("10.3", ORIN, "fp32", "strong", marks=pytest.mark.slow),
        pytest.param("10.3", ORIN, "fp16", "strong", marks=pytest.mark.slow),
        ("10.3", ORIN, "int8", "strong"),
        pytest.param("10.13", ORIN, "int8", "strong", marks=pytest.mark.slow),
        pytest.param("11.4", ORIN, "int8", "strong", marks=pytest.mark.slow),
        pytest.param("11.4", PC, "fp16", "strong", marks=pytest.mark.slow),
    ],
)
def test_a_plan_is_built_tried_published_and_runs(
    workshop: Workshop, board: Callable[..., None], surface: str, device: DeviceInfo, policy: str, form: str
) -> None:
    board(surface, device)
    plan = workshop.build(policy)
    manifest = plan.manifest
    assert manifest.precision == policy
    assert manifest.target is not None
    assert manifest.target.form == form
    assert manifest.backend.name == "tensorrt"
    assert manifest.plan.file == "model.plan"
    chosen = candidate(plan, policy)
    assert chosen.verdict == "chosen"
    assert chosen.agreement is not None
    assert chosen.agreement.cosine is not None
    assert chosen.agreement.cosine > 0.99
    has_qdq = "QuantizeLinear" in ops(plan)
    assert has_qdq == (policy == "int8" and form != "implicit")
    with edge_runtime.load(plan) as engine:
        outputs = engine.infer({"x": np.ones((3, 4), np.float32)})
    assert outputs["scores"].shape == (3, 3)


def test_a_loaded_plan_runs_over_its_users_memory(workshop: Workshop, board: Callable[..., None]) -> None:
    board()
    plan, memory = workshop.build("fp32"), mmap.mmap(-1, 8192)
    given = {
        "x": np.frombuffer(memory, np.float32, 12).reshape(3, 4),
        "scores": np.frombuffer(memory, np.float32, 9, 4096).reshape(3, 3),
    }
    given["x"][:] = np.random.default_rng(1).normal(size=(3, 4))
    with edge_runtime.load(plan) as engine:
        slot = engine.slot_over(given)
        assert slot is not None
        assert slot.run()["scores"] is given["scores"]
        np.testing.assert_array_equal(given["scores"], engine.infer({"x": given["x"]})["scores"])
        slot.close()


def test_implicit_int8_gets_a_scale_for_every_activation(workshop: Workshop, board: Callable[..., None]) -> None:
    board("8.2", XAVIER)
    calibration = asked(workshop.build("int8"))["calibration"]
    assert calibration["is_from_cache"]
    assert calibration["cache"].startswith("TRT-8201-EntropyCalibration2\n")
    assert {"x", "h", "r", "scores"} <= calibration["scales"].keys()


@pytest.mark.parametrize("surface", ["8.2", pytest.param("8.6", marks=pytest.mark.slow)])
def test_nodes_kept_in_float_are_held_where_flags_decide(
    workshop: Workshop, board: Callable[..., None], surface: str
) -> None:
    board(surface, XAVIER)
    plan = workshop.build("int8", precision={"policy": "int8", "keep_float": ["head"]}, backend={"int8": "implicit"})
    record = asked(plan)
    held = {layer["name"]: layer["precision"] for layer in record["layers"] if layer["precision"]}
    assert held == {"head": "FLOAT"}
    assert {"INT8", "OBEY_PRECISION_CONSTRAINTS"} <= set(record["flags"])
    assert candidate(plan, "int8").kept_float == ["head"]


@pytest.mark.parametrize(
    ("surface", "batch_size"),
    [pytest.param("8.6", 1, marks=pytest.mark.slow), pytest.param("8.6", 8, marks=pytest.mark.slow), ("10.3", 3)],
)
def test_tensorrt_own_calibrator_sees_every_batch_and_fills_the_table(
    workshop: Workshop, board: Callable[..., None], surface: str, batch_size: int
) -> None:
    board(surface)
    plan = workshop.build("int8", calibration={"data": "c.npz", "algorithm": "tensorrt", "batch_size": batch_size})
    chosen = candidate(plan, "int8")
    assert chosen.calibrator == "tensorrt"
    assert chosen.verdict == "chosen"
    left_out = [note for note in plan.manifest.notes if "have another shape" in note]
    assert bool(left_out) == (64 % batch_size != 0)


def test_no_calibrator_is_said_where_there_is_none(workshop: Workshop, board: Callable[..., None]) -> None:
    board("11.4")
    with pytest.raises(ConfigError, match='algorithm = "tensorrt" is TensorRT\'s own calibrator'):
        workshop.build("int8", calibration={"data": "c.npz", "algorithm": "tensorrt"})


def test_a_dla_gets_flags_a_cache_and_the_gpu_to_fall_back_on(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3", dla_cores=2)
    with pytest.raises(ConfigError, match=r"takes one shape of each input.*--shape x=1x4"):
        workshop.build("int8", backend={"device": "dla:1"})
    plan = workshop.build("int8", backend={"device": "dla:1"}, input={"x": {"shape": [4, 4]}})
    record = asked(plan)
    assert (record["default_device"], record["dla_core"]) == ("DLA", 1)
    assert {"INT8", "FP16", "GPU_FALLBACK"} <= set(record["flags"])
    assert not record["is_strongly_typed"]
    assert plan.manifest.target is not None
    assert plan.manifest.target.dla_core == 1
    assert plan.manifest.backend.device == "dla:1"
    assert candidate(plan, "fp32").verdict == "unavailable"


def test_a_build_that_runs_out_of_memory_is_tried_with_less(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3", workspace_nbytes=1 << 50)
    with pytest.raises(OutOfMemoryError, match=r"memory ran out, with a workspace of 256 MiB.*64 MiB.*16 MiB"):
        workshop.build("fp16", backend={"workspace_mib": 256})
    assert not list((workshop.folder / "engines").glob("m/*"))


def test_a_failed_build_leaves_the_old_plan_served(workshop: Workshop, monkeypatch: Any, tmp_path: Path) -> None:
    use_machine(monkeypatch, tmp_path / "sound", "10.3")
    first = workshop.build("fp16")
    use_machine(monkeypatch, tmp_path / "broken", "10.3", build_error="no kernel for conv")
    with pytest.raises(BackendError, match="no kernel for conv"):
        workshop.build("fp16", backend={"optimization_level": 1})
    use_machine(monkeypatch, tmp_path / "sound again", "10.3")
    with edge_runtime.load(first) as engine:
        assert engine.infer({"x": np.ones((1, 4), np.float32)})["scores"].shape == (1, 3)
    assert workshop.build("fp16").is_reused
    assert [path.name for path in (workshop.folder / "engines").iterdir() if path.name.startswith(".build")] == []


def test_the_second_build_finds_tactics_in_the_timing_cache(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3")
    first = asked(workshop.build("fp32"))["timing"]
    again = asked(workshop.build("fp32", gate={"latency_budget_s": 0.06}))["timing"]
    assert (first["hits"], again["misses"]) == (0, 0)
    assert first["misses"] == again["hits"] > 0


def test_unsupported_operators_are_named_with_their_nodes(workshop: Workshop, board: Callable[..., None]) -> None:
    board("8.6", unsupported_ops=["Relu", "Gemm"])
    with pytest.raises(ParseError, match=r"refuses 2 nodes: node (hidden|relu).*node (hidden|relu)"):
        workshop.build("fp16")


def test_settings_of_the_recipe_reach_the_builder(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3")
    backend = {"workspace_mib": 64, "optimization_level": 1, "version_compatible": True}
    plan = workshop.build("fp16", backend=backend)
    record = asked(plan)
    assert record["workspace_nbytes"] == 64 << 20
    assert record["optimization_level"] == 1
    assert {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"} <= set(record["flags"])
    assert record["verbosity"] == "DETAILED"
    assert plan.manifest.target is not None
    assert plan.manifest.target.version_compatible


@pytest.mark.parametrize(
    ("surface", "device", "backend", "message"),
    [
        ("8.2", PC, {"version_compatible": True}, r"\[backend\] version_compatible: .*leave it out"),
        ("10.3", PC, {"compute_capabilities": ["8.9"]}, r"\[backend\] compute_capabilities: .*leave it out"),
        ("10.3", PC, {"device": "gpu:7"}, "CUDA device 7: expected an ordinal below 1"),
        ("8.5", PC, {"hardware_compatibility": "ampere_plus"}, r"\[backend\] hardware_comp.*leave it out"),
        ("10.3", ORIN, {"device": "dla:1"}, "finds 0 deep learning accelerators"),
        ("10.3", PC, {"plugins": ["m.onnx"]}, r"can't be loaded.*correct \[backend\] plugins"),
        ("11.4", PC, {"int8": "implicit"}, "leave it out of"),
    ],
)
def test_a_setting_that_tensorrt_has_not_is_refused_before_calibration(
    workshop: Workshop, board: Any, surface: str, device: DeviceInfo, backend: Dict[str, Any], message: str
) -> None:
    board(surface, device)
    with pytest.raises(EdgeRuntimeError, match=message) as raised:
        workshop.build("auto", backend=backend, input={"x": {"shape": [4, 4]}})
    assert raised.value.exit_code == 78
    assert not (workshop.folder / "calib_cache").exists()
    assert not list((workshop.folder / "engines").glob(".build-*"))


def test_a_plan_of_another_tensorrt_is_refused_before_it_is_loaded(
    workshop: Workshop, monkeypatch: Any, tmp_path: Path
) -> None:
    use_machine(monkeypatch, tmp_path / "old", "8.6")
    plan = workshop.build("fp16")
    use_machine(monkeypatch, tmp_path / "new", "10.3")
    with pytest.raises(PlanTargetError, match=r"expected 8\.6\.1.*got 10\.3\.0.*edge-runtime build"):
        edge_runtime.load(plan)


def test_int64_is_int32_where_tensorrt_has_no_int64(workshop: Workshop, monkeypatch: Any, tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("ArgMax", ["x"], ["y"], "best", axis=1, keepdims=0)]
    values = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4]),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["n"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (workshop.folder / "m.onnx").write_bytes(model.SerializeToString())
    for surface, dtype in (("8.6", DType.INT32), ("10.3", DType.INT64)):
        use_machine(monkeypatch, tmp_path / surface, surface)
        plan = workshop.build("fp32", metric={"name": "max-abs"})
        assert plan.manifest.signature.outputs[0].dtype is dtype
        with edge_runtime.load(plan) as engine:
            answer = engine.infer({"x": np.array([[0, 3, 1, 2]], np.float32)})["y"]
        assert (answer.tolist(), answer.dtype) == ([1], dtype.numpy)


def test_int8_on_a_board_without_it_is_what_the_recipe_falls_back_to(
    workshop: Workshop, board: Callable[..., None]
) -> None:
    board("8.2", NANO)
    with pytest.raises(ConfigError, match=r"Jetson Nano .* \(compute capability 5\.3\) has no INT8 hardware"):
        workshop.build("int8")
    assert workshop.build("int8", backend={"name": "onnxruntime"}).manifest.precision == "int8"
    plan = workshop.build("int8", precision={"policy": "int8", "fallback": "fp16"})
    assert plan.manifest.precision == "fp16"
    assert any("fp16 is built instead" in note for note in plan.manifest.notes)
    auto = workshop.build("auto").manifest.candidates
    (int8,) = [record for record in auto if record.precision == "int8"]
    assert (int8.name, int8.verdict) == ("int8", "unavailable")
    assert "no INT8 hardware" in int8.reason


def test_auto_tries_every_width_on_the_device(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3")
    plan = workshop.build("auto")
    records = {record.name: record for record in plan.manifest.candidates}
    assert records["fp32"].verdict in ("passed", "chosen")
    assert records["fp16"].latency is not None
    built = [record for record in records.values() if record.precision == "int8" and "not built" not in record.reason]
    assert len(built) == 1
    assert len([record for record in records.values() if "not built: on ONNX Runtime" in record.reason]) == 3


@pytest.mark.parametrize("nodes", [[], [onnx.helper.make_node("Relu", ["x"], ["y"])]])
def test_an_output_that_is_an_input_is_refused_before_anything_is_built(
    workshop: Workshop, board: Callable[..., None], nodes: Any
) -> None:
    board("10.3")
    value = onnx.helper.make_tensor_value_info
    x, y = (value(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "xy")
    graph = onnx.helper.make_graph(nodes, "through", [x], [x, y] if nodes else [x])
    opsets = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), str(workshop.folder / "m.onnx"))
    expected = "output 'x' is an input too" if nodes else "has no nodes"
    with pytest.raises(UnsupportedModelError, match=f"{expected}.*Identity"):
        workshop.build("fp32")


def swish_net() -> bytes:
    """x f32[n, 4] -> Gemm -> Swish_TRT (a plugin) -> Gemm -> y f32[n, 3]."""
    rng = np.random.default_rng(5)
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w"], ["a"], "before"),
        onnx.helper.make_node("Swish_TRT", ["a"], ["b"], "swish"),
        onnx.helper.make_node("Gemm", ["b", "v"], ["y"], "after"),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 4), ("y", 3))
    ]
    weights = {"w": rng.normal(size=(4, 8)), "v": rng.normal(size=(8, 3))}
    tensors = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "swish", values[:1], values[1:], tensors)
    opsets = [onnx.helper.make_opsetid("", 13)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A library that holds nothing, and stands for one with the plugin Swish_TRT."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler to make a library with")
    (tmp_path / "swish.c").write_text("int swish = 1;\n")
    command = ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libswish.so"), str(tmp_path / "swish.c")]
    subprocess.run(command, check=True)
    return tmp_path / "libswish.so"


@pytest.mark.parametrize("policy", [pytest.param("fp16", marks=pytest.mark.slow), "int8"])
def test_a_model_with_a_plugin_is_built_and_compared_with_its_fp32_plan(
    workshop: Workshop, board: Callable[..., None], plugin: Path, policy: str
) -> None:
    board("10.3", plugin_libraries={str(plugin): ["Swish_TRT"]})
    (workshop.folder / "m.onnx").write_bytes(swish_net())
    named = {"plugin_ops": ["Swish_TRT"]}
    with pytest.raises(EdgeRuntimeError, match="swish"):
        workshop.build("fp32", backend=named)
    plan = workshop.build(policy, backend={**named, "plugins": [plugin.name]})
    assert plan.manifest.target is not None
    assert [record.path for record in plan.manifest.target.plugins] == [str(plugin)]
    chosen = candidate(plan, policy)
    assert chosen.agreement is not None
    assert chosen.agreement.cosine is not None
    assert chosen.agreement.cosine > 0.99
    with edge_runtime.load(plan) as engine:
        assert engine.infer({"x": np.ones((2, 4), np.float32)})["y"].shape == (2, 3)
    changed = plugin.with_suffix(".changed")
    changed.write_bytes(plugin.read_bytes() + b"changed")
    changed.replace(plugin)  # this process has the old one loaded, which must stay as it is
    with pytest.raises(PlanTargetError, match="with which it was built"):
        edge_runtime.load(plan)


def test_a_model_with_a_plugin_is_not_for_the_cpu(workshop: Workshop) -> None:
    (workshop.folder / "m.onnx").write_bytes(swish_net())
    with pytest.raises(UnsupportedModelError, match="backend onnxruntime has none"):
        workshop.build("fp32", backend={"plugin_ops": ["Swish_TRT"]})


def test_a_plugins_operator_that_the_model_lacks_is_refused(workshop: Workshop) -> None:
    with pytest.raises(ConfigError, match=r"'Conv': .*all that it has are standard, so leave plugin_ops out"):
        workshop.build("fp32", backend={"plugin_ops": ["Conv"]})
    (workshop.folder / "m.onnx").write_bytes(swish_net())
    with pytest.raises(ConfigError, match=r"'Gemm': .*expected Swish_TRT$"):
        workshop.build("fp32", backend={"plugin_ops": ["Swish_TRT", "Gemm"]})


def test_a_folder_for_calibrations_that_cannot_be_is_refused_at_once(workshop: Workshop) -> None:
    (workshop.folder / "calib_cache").write_text("no folder")
    with pytest.raises(ConfigError, match=r"calib_cache: can't be written.*--calib-cache"):
        workshop.build("auto")
    assert workshop.build("fp32").manifest.precision == "fp32"


def test_a_plan_that_crashes_tensorrt_ends_only_its_trial(
    workshop: Workshop, board: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    board("10.3")
    crash = (sys.executable, "-c", "import os; os.kill(os.getpid(), 11)")
    monkeypatch.setattr("edge_runtime.engine.tensorrt.trial_child.trial_run_in_child.__defaults__", (300.0, crash))
    with pytest.raises(BackendError, match="ended by SIGSEGV while TensorRT loaded or ran it"):
        workshop.build("fp16")


def test_a_plan_is_tried_out_once(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3")
    plan = workshop.build("fp16")
    marks = {path.name.split("-")[0] for path in (workshop.folder / "engines/.verified").iterdir()}
    assert plan.manifest.plan.sha256 in marks


def test_layers_are_traced_to_their_nodes(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3")
    plan = workshop.build("fp16")
    profile = profile_layers(plan, {"x": np.ones((1, 4), np.float32)}, ProfileOptions(runs=3, warm_up=1, threads=1))
    assert len(profile.whole_us) == 3
    assert {"hidden", "relu", "head"} <= {node for layer in profile.layers for node in layer.nodes}


def test_a_build_that_needs_more_workspace_gets_it_or_says_so(workshop: Workshop, board: Callable[..., None]) -> None:
    board("10.3", build_error="Could not find any implementation for node conv due to insufficient workspace")
    with pytest.raises(BackendError, match=r"with a workspace of 64 MiB: .*set \[backend\] workspace_mib higher"):
        workshop.build("fp16", backend={"workspace_mib": 64})


def test_the_gpu_and_the_power_mode_decide_what_is_built_again(
    workshop: Workshop, board: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    board("10.3", PC)
    first = workshop.build("fp16")
    assert workshop.build("fp16").is_reused
    monkeypatch.setattr(job, "gpu_of", lambda device, ordinal: Gpu("another GPU", (8, 7)))
    second = workshop.build("fp16")
    assert not second.is_reused
    monkeypatch.setattr(job, "current_power_mode", lambda: PowerMode(2, "25W"))
    third = workshop.build("fp16")
    assert not third.is_reused
    targets = [plan.manifest.target for plan in (first, second, third)]
    assert [target.power_mode for target in targets if target] == [None, None, "25W"]
    assert len({(target.gpu, target.power_mode) for target in targets if target}) == 3
    timing = list((workshop.folder / "engines/.timing").iterdir())
    assert len(timing) == 3


def test_a_plan_built_with_less_memory_is_known_as_such_and_built_again_when_asked(
    workshop: Workshop, board: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    board("10.3")
    once = Attempts._once

    def short(self: Attempts, request: Any, rung: Rung) -> Any:
        if not rung.is_reduced:
            raise OutOfMemoryError("the build was stopped")
        return once(self, request, rung)

    monkeypatch.setattr(Attempts, "_once", short)
    plan = workshop.build("fp16")
    assert plan.manifest.target is not None
    assert plan.manifest.target.is_reduced
    monkeypatch.setattr(Attempts, "_once", once)
    assert workshop.build("fp16").is_reused
    again = workshop.build("fp16", again=True)
    assert (again.is_reused, again.manifest.version) == (False, 2)
    assert again.manifest.target is not None
    assert not again.manifest.target.is_reduced


def test_two_builds_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    with work_folder(tmp_path) as first, work_folder(tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()
        (tmp_path / ".build-left").mkdir()
    with work_folder(tmp_path) as third:
        assert list(tmp_path.iterdir()) == [third]
