from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from fakes.board_setup import use_in_process
from fakes.cuda import ORIN

from edge_runtime.device.identity import DeviceInfo
from edge_runtime.engine import loading
from edge_runtime.engine.engine import EngineInfo
from edge_runtime.engine.layers import ProfileOptions
from edge_runtime.engine.loading import EngineOptions, engine_from_files, load, tensorrt_options
from edge_runtime.engine.profiling import profile_layers
from edge_runtime.engine.tensorrt.loading import board_key
from edge_runtime.engine.tensorrt.memory_kind import FILE, MeasuredMemory, device_key, write_measured
from edge_runtime.engine.tensorrt.options import TensorRTOptions
from edge_runtime.errors import BackendError, ConfigError, DeviceLostError, PlanTargetError
from edge_runtime.plan.contents import PlanFiles
from edge_runtime.plan.manifest import Manifest, TargetRecord, range_record, tensor_record
from edge_runtime.plan.plan_key import PlanKey, new_plan_key, write_plan_key
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.tensors import ShapeRange, Signature

BATCHED = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
INFO = EngineInfo("m", 1, "tensorrt 10.3.0", "tensorrt_plan", "fp32", "gpu:0", "10.3.0")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fake board in this process, whose plans every preflight lets pass."""
    found = use_in_process(monkeypatch, "10.3")
    found.cuda.use_device(0)
    monkeypatch.setattr(loading, "preflight", lambda stored, plugins: ("it may be slower",))
    return found


@pytest.fixture
def stored(
    board: Any, tmp_path: Path, build_plan: Callable[..., bytes], signature_for: Any, doubling: bytes
) -> StoredPlan:
    """A plan of the board in a store."""
    plan = PlanFiles({"model.plan": build_plan(board.tensorrt, doubling, [BATCHED])})
    return publish(PlanStore(tmp_path / "engines"), plan, signature_for(doubling, BATCHED))


def publish(store: PlanStore, plan: PlanFiles, signature: Signature, seal: PlanKey | None = None) -> StoredPlan:
    def manifest(version: int) -> Manifest:
        return Manifest.model_validate(
            {
                "name": "m",
                "version": version,
                "created": "",
                "edge_runtime": "0",
                "build_key": "k",
                "precision": "fp32",
                "plan": plan.record,
                "data": {},
                "device": {},
                "candidates": [],
                "source": {"source": "m.onnx", "digest": "d", "files": {}},
                "backend": {"name": "tensorrt", "version": "10.3.0", "platform": "tensorrt_plan", "device": "gpu:0"},
                "target": {"form": "strong", "compute_capability": [8, 7]},
                "inputs": [tensor_record(spec) for spec in signature.inputs],
                "outputs": [tensor_record(spec) for spec in signature.outputs],
                "profile": {name: range_record(limits) for name, limits in signature.profile.items()},
                "max_batch_size": 8,
            }
        )

    return store.publish("m", manifest, plan.contents, seal=seal)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list:
    """The requests of trial runs, which all go well."""
    found: list = []

    def answer(request: Any) -> dict:
        found.append(request)
        return {"ok": True, "ran": True, "problem": ""}

    monkeypatch.setattr("edge_runtime.engine.tensorrt.loading.trial_run_in_child", answer)
    return found


def test_a_stored_plan_answers(board: Any, stored: StoredPlan, trials: list, caplog: pytest.LogCaptureFixture) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    with load(stored.folder, EngineOptions(slots=2)) as engine:
        assert engine.info.backend == "tensorrt 10.3.0"
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], 2 * x)
    board.cuda.check_leaks()
    assert "it may be slower" in caplog.text


def test_a_plan_is_tried_out_once_on_a_board(stored: StoredPlan, trials: list) -> None:
    for _ in range(3):
        load(stored).close()
    assert len(trials) == 1
    assert trials[0].path == stored.plan_path
    assert trials[0].record.sha256 == stored.manifest.plan.sha256


def test_an_encrypted_plan_is_tried_out_and_answers(
    board: Any, stored: StoredPlan, trials: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_plan_key()
    monkeypatch.setenv("EDGE_RUNTIME_TRUST__PLAN_KEY", str(write_plan_key(key, "plan", tmp_path / "keys")))
    sealed = publish(PlanStore(tmp_path / "sealed"), stored.open_files(), stored.manifest.signature, key)
    x = np.ones((2, 4), np.float32)
    with load(sealed) as engine:
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], 2 * x)
    assert [(trial.path.name, trial.key) for trial in trials] == [("model.plan.enc", key)]


def test_a_plan_that_fails_its_trial_is_not_loaded_here(
    board: Any, stored: StoredPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: Any) -> dict:
        raise BackendError("ended by SIGSEGV")

    monkeypatch.setattr("edge_runtime.engine.tensorrt.loading.trial_run_in_child", fail)
    monkeypatch.setattr(board.tensorrt, "Runtime", lambda logger: pytest.fail("loaded"))
    for _ in range(2):
        with pytest.raises(BackendError, match="SIGSEGV"):
            load(stored)


@pytest.mark.parametrize(("ran", "times", "level"), [(True, 1, "INFO"), (False, 2, "WARNING")])
def test_a_plan_that_may_not_run_at_all_is_tried_each_time(
    stored: StoredPlan, monkeypatch: pytest.MonkeyPatch, caplog: Any, ran: bool, times: int, level: str
) -> None:
    found: list = []

    def answer(request: Any) -> dict:
        found.append(request)
        return {"ok": True, "ran": ran, "problem": "a size of 0"}

    caplog.set_level(logging.INFO)
    monkeypatch.setattr("edge_runtime.engine.tensorrt.loading.trial_run_in_child", answer)
    for _ in range(2):
        load(stored).close()
    assert len(found) == times
    said = [record.levelname for record in caplog.records if record.getMessage().endswith(": a size of 0")]
    assert said == [level] * times


def test_a_plan_is_read_when_its_trial_is_over(
    stored: StoredPlan, trials: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list = []
    real = StoredPlan.open_files
    monkeypatch.setattr(StoredPlan, "open_files", lambda plan: seen.append(len(trials)) or real(plan))
    load(stored).close()
    assert seen == [1]


def test_a_plan_that_came_from_another_board_is_tried_out_again(
    stored: StoredPlan, trials: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(stored).close()
    another = DeviceInfo("jetson", "Jetson Orin NX", "aarch64", "", "tegra234", "p3767-0000", "36.4.3")
    monkeypatch.setattr("edge_runtime.engine.tensorrt.loading.identify", lambda: another)
    load(stored).close()
    assert len(trials) == 2


def test_a_board_key_names_the_device(board: Any) -> None:
    assert board_key(TensorRTOptions()).endswith("gpu:0")
    assert board_key(TensorRTOptions(dla_core=1)).endswith("dla:1")
    assert board_key(TensorRTOptions()).startswith("tensorrt 10.3.0 | ")


def test_a_store_that_cannot_be_written_tries_each_time(
    stored: StoredPlan, trials: list, caplog: pytest.LogCaptureFixture
) -> None:
    (stored.folder.parent.parent / ".verified").write_text("a file, no folder")
    for _ in range(2):
        load(stored).close()
    assert len(trials) == 2
    assert caplog.text.count("tried out each time") == 2


@pytest.mark.parametrize(("memory", "copies"), [("auto", True), ("mapped", False), ("copy", True)])
def test_what_was_measured_on_this_board_is_used(
    board: Any, stored: StoredPlan, trials: list, memory: str, copies: bool
) -> None:
    write_measured(stored.folder.parent.parent / FILE, device_key(ORIN), MeasuredMemory(0, "a test"))
    load(stored, EngineOptions(memory=memory)).close()
    assert bool(board.cuda.counts["copy_async"]) == copies


def test_small_tensors_are_mapped_until_a_board_was_measured(board: Any, stored: StoredPlan, trials: list) -> None:
    load(stored).close()
    assert board.cuda.counts["copy_async"] == 0


def test_a_plan_that_was_never_stored_runs_without_a_trial(
    board: Any, trials: list, build_plan: Callable[..., bytes], signature_for: Any, doubling: bytes
) -> None:
    plan = PlanFiles({"model.plan": build_plan(board.tensorrt, doubling, [BATCHED])})
    x = np.ones((2, 4), np.float32)
    with engine_from_files(plan, INFO, signature_for(doubling, BATCHED), EngineOptions()) as engine:
        np.testing.assert_array_equal(engine.infer({"x": x})["y"], 2 * x)
    assert trials == []
    board.cuda.check_leaks()


def test_what_was_measured_is_used_for_a_plan_that_was_never_stored(
    board: Any, tmp_path: Path, build_plan: Callable[..., bytes], signature_for: Any, doubling: bytes
) -> None:
    plan = PlanFiles({"model.plan": build_plan(board.tensorrt, doubling, [BATCHED])})
    write_measured(tmp_path / FILE, device_key(ORIN), MeasuredMemory(0, "a test"))
    engine_from_files(plan, INFO, signature_for(doubling, BATCHED), EngineOptions()).close()
    assert board.cuda.counts["copy_async"] == 0
    engine_from_files(plan, INFO, signature_for(doubling, BATCHED), EngineOptions(), tmp_path).close()
    assert board.cuda.counts["copy_async"] > 0


def test_layers_are_timed_with_memory_as_it_was_measured(board: Any, stored: StoredPlan) -> None:
    write_measured(stored.folder.parent.parent / FILE, device_key(ORIN), MeasuredMemory(0, "a test"))
    profile_layers(stored, {"x": np.ones((2, 4), np.float32)}, ProfileOptions(runs=1, warm_up=0, threads=1))
    assert board.cuda.counts["copy_async"] > 0


@pytest.mark.parametrize(
    ("platform", "library"),
    [("tensorrt_plan", "tensorrt"), ("tensorrt_rtx_plan", "tensorrt_rtx"), ("onnxruntime_onnx", "onnxruntime")],
)
def test_the_library_is_that_of_the_platform_whatever_is_displayed(platform: str, library: str) -> None:
    assert EngineInfo("m", 1, "as you like", platform, "fp32", "cpu").library == library


def test_a_device_that_is_lost_in_warming_up_is_an_error(
    board: Any, build_plan: Callable[..., bytes], signature_for: Any, doubling: bytes
) -> None:
    plan = PlanFiles({"model.plan": build_plan(board.tensorrt, doubling, [BATCHED])})
    board.cuda.fail_next("synchronize_event", 700)
    with pytest.raises(DeviceLostError, match="must be restarted"):
        engine_from_files(plan, INFO, signature_for(doubling, BATCHED), EngineOptions())


@pytest.mark.parametrize(
    ("device", "ordinal", "core"), [("gpu:0", 0, None), ("gpu:2", 2, None), ("dla:1", 0, 1), ("cpu", 0, None)]
)
def test_the_device_is_that_of_the_plan(device: str, ordinal: int, core: int | None) -> None:
    found = tensorrt_options(replace(INFO, device=device), EngineOptions())
    assert (found.device, found.dla_core) == (ordinal, core)


@pytest.mark.parametrize(
    ("target", "allows", "expected"),
    [
        (None, False, False),
        (None, True, True),
        (TargetRecord(form="weak"), True, False),
        (TargetRecord(form="weak", version_compatible=True), True, True),
        (TargetRecord(form="weak", version_compatible=True), False, False),
    ],
)
def test_a_plan_brings_code_only_if_it_is_version_compatible_and_trusted(
    monkeypatch: pytest.MonkeyPatch, target: TargetRecord | None, allows: bool, expected: bool
) -> None:
    monkeypatch.setattr(loading, "tensorrt_version", lambda name: "10.3.0")
    assert tensorrt_options(INFO, EngineOptions(allows_plan_code=allows), target).allows_host_code is expected


@pytest.mark.parametrize(
    ("full", "lean", "is_compatible", "expected"),
    [
        ("10.3.0", None, True, "tensorrt"),
        ("10.3.0.26", None, True, "tensorrt"),
        ("10.9.0", "10.9.0", True, "tensorrt_lean"),
        (None, "10.3.0", True, "tensorrt_lean"),
        (None, None, False, "tensorrt"),
        ("10.9.0", "10.9.0", False, "tensorrt"),
    ],
)
def test_the_lean_library_loads_version_compatible_plans_of_another_version(
    monkeypatch: pytest.MonkeyPatch, full: str | None, lean: str | None, is_compatible: bool, expected: str
) -> None:
    monkeypatch.setattr(loading, "tensorrt_version", {"tensorrt": full, "tensorrt_lean": lean}.get)
    target = TargetRecord(form="weak", version_compatible=is_compatible)
    assert tensorrt_options(INFO, EngineOptions(), target).library == expected


@pytest.mark.parametrize("lean", [None, "10.2.0", "unknown"])
def test_without_a_lean_library_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, lean: str | None) -> None:
    monkeypatch.setattr(loading, "tensorrt_version", {"tensorrt": "10.9.0", "tensorrt_lean": lean}.get)
    with pytest.raises(PlanTargetError, match=r"expected tensorrt 10\.3\.0, .* got tensorrt 10\.9\.0 .*tensorrt-lean"):
        tensorrt_options(INFO, EngineOptions(), TargetRecord(form="weak", version_compatible=True))


def test_plugin_libraries_must_be_those_that_the_plan_was_built_with(tmp_path: Path) -> None:
    built, moved = tmp_path / "ops.so", tmp_path / "moved/ops.so"
    moved.parent.mkdir()
    moved.write_bytes(b"library")
    record = {"path": str(built), "sha256": hashlib.sha256(b"library").hexdigest()}
    target = TargetRecord.model_validate({"form": "weak", "plugins": [record]})
    with pytest.raises(PlanTargetError, match=r"ops\.so can't be used"):
        tensorrt_options(INFO, EngineOptions(), target)
    assert tensorrt_options(INFO, EngineOptions(plugins=(str(moved),)), target).plugins == (str(moved),)
    built.write_bytes(b"another")
    with pytest.raises(PlanTargetError, match=r"expected sha256 .*, with which it was built"):
        tensorrt_options(INFO, EngineOptions(), target)
    built.write_bytes(b"library")
    assert tensorrt_options(INFO, EngineOptions(), target).plugins == (str(built),)


@pytest.mark.parametrize("options", [{"memory": "pinned"}, {"graphs": "yes"}])
def test_engine_options_that_there_are_not_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="engine option"):
        EngineOptions(**options)
    assert logging.getLogger("edge_runtime.engine.loading").name
