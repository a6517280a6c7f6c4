from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Dict

import pytest

from edge_runtime.device.identity import DeviceInfo
from edge_runtime.errors import BackendUnavailableError, PlanCorruptError, PlanTargetError
from edge_runtime.plan.board import Board, Gpu
from edge_runtime.plan.manifest import Manifest, PluginRecord
from edge_runtime.plan.plugins import plugin_libraries, plugin_record
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.plan.target import check_target, preflight, version_numbers

ORIN = DeviceInfo("jetson", "NVIDIA Jetson Orin NX", "aarch64", "Cortex-A78AE", "tegra234", "Orin NX 16GB", "36.4.7")
PC = DeviceInfo("nvidia", "none", "x86_64", "some CPU")
CPU = DeviceInfo("cpu", "none", "x86_64", "some CPU")
PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(200)


def libraries(**found: str) -> Dict[str, Any]:
    return {"onnxruntime": "1.20", "tensorrt": "10.3.0", "tensorrt_rtx": None, "tensorrt_lean": None, **found}


def board(device: DeviceInfo = ORIN, **facts: Any) -> Board:
    return Board(**{"device": device, "libraries": libraries(), "gpu": Gpu("", (8, 7)), "power_mode": "25W", **facts})


def manifest(plan: bytes = PLAN, version: int = 1, backend: Any = None, **target: Any) -> Manifest:
    tensor = {"name": "x", "dtype": "FP32", "shape": [2]}
    return Manifest.model_validate(
        {
            "name": "m",
            "version": version,
            "created": "2026-01-01T00:00:00+00:00",
            "edge_runtime": "0",
            "build_key": "k",
            "precision": "fp16",
            "plan": {"file": "model.plan", "sha256": hashlib.sha256(plan).hexdigest(), "nbytes": len(plan)},
            "source": {"source": "m.onnx", "digest": "0" * 64, "files": {}},
            "data": {},
            "backend": {
                "name": "tensorrt",
                "version": "10.3.0.30",
                "platform": "tensorrt_plan",
                "device": "gpu:0",
                **(backend or {}),
            },
            "device": {"kind": "jetson"},
            "inputs": [tensor],
            "outputs": [{**tensor, "name": "y"}],
            "profile": {"x": {"min": [2], "opt": [2], "max": [2]}},
            "max_batch_size": 0,
            "candidates": [],
            "target": {"form": "strong", "compute_capability": [8, 7], "l4t": "36.4.7", "power_mode": "25W", **target},
        }
    )


def stored(folder: Path, plan: bytes = PLAN, **facts: Any) -> StoredPlan:
    def made(version: int) -> Manifest:
        return manifest(plan, version, **facts)

    return PlanStore(folder / "engines").publish("m", made, {"model.plan": plan}, is_new=False)


def test_a_plan_of_this_board_passes_without_a_word(tmp_path: Path) -> None:
    assert preflight(stored(tmp_path), board()) == ()


@pytest.mark.parametrize(
    ("facts", "here", "error", "message"),
    [
        ({}, {"libraries": libraries(tensorrt="10.7.0")}, PlanTargetError, r"expected 10\.3\.0\.30.*got 10\.7\.0"),
        ({}, {"libraries": libraries(tensorrt="10.3.1")}, PlanTargetError, r"got 10\.3\.1"),
        ({}, {"libraries": libraries(tensorrt=None)}, BackendUnavailableError, "system-site-packages"),
        ({}, {"gpu": Gpu("", (7, 2))}, PlanTargetError, r"GPU: expected 8\.7.*got 7\.2"),
        ({}, {"device": CPU}, BackendUnavailableError, "no NVIDIA GPU.*--backend onnxruntime"),
        ({"l4t": "35.6.1"}, {}, PlanTargetError, r"L4T release: expected 35\.6\.1.*got 36\.4\.7"),
        ({"dla_core": 1, "l4t": "36.4.3"}, {}, PlanTargetError, "L4T release"),
        ({"dla_core": 2}, {}, PlanTargetError, r"DLA core.*gpu:0"),
        ({"backend": {"device": "gpu:7"}}, {}, PlanTargetError, "GPU: expected gpu:7.*gpu:0"),
        ({"backend": {"name": "openvino"}}, {}, PlanTargetError, "built for backend 'openvino'"),
        (
            {"version_compatible": True},
            {"libraries": libraries(tensorrt="8.6.1")},
            PlanTargetError,
            "pip install tensorrt-lean",
        ),
        (
            {"version_compatible": True},
            {"libraries": libraries(tensorrt="8.6.1", tensorrt_lean="8.6.1")},
            PlanTargetError,
            "or later, for which",
        ),
        ({"hardware_compatibility": "ampere_plus", "compute_capability": (8, 0)}, {}, PlanTargetError, "GPU"),
    ],
)
def test_a_plan_for_another_board_is_refused_with_the_command_that_mends_it(
    facts: Any, here: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        check_target(manifest(**facts), board(**here))
    assert raised.value.exit_code == 78
    assert "RECIPE.toml --name m" in str(raised.value) or "venv" in str(raised.value)


@pytest.mark.parametrize(
    ("facts", "here", "message"),
    [
        ({"l4t": "36.4.3"}, {}, r"built on L4T 36\.4\.3, this is 36\.4\.7"),
        ({"power_mode": "MAXN_SUPER"}, {}, "power mode MAXN_SUPER, this is 25W.*nvpmodel"),
        ({"compute_capability": None}, {}, "isn't known"),
        ({}, {"libraries": libraries(tensorrt="unknown")}, "can't be compared"),
        (
            {"gpu": "AGX Orin 64GB"},
            {"gpu": Gpu("Orin NX 16GB", (8, 7))},
            "chosen on AGX Orin 64GB, this is Orin NX 16GB",
        ),
    ],
)
def test_what_only_may_differ_is_a_warning(facts: Any, here: Any, message: str) -> None:
    (warning,) = check_target(manifest(**facts), board(**here))
    assert re.search(message, warning)


@pytest.mark.parametrize(
    ("facts", "here"),
    [
        ({"version_compatible": True}, {"libraries": libraries(tensorrt="11.4.1", tensorrt_lean="11.4.1")}),
        ({"version_compatible": True}, {}),
        ({"version_compatible": True}, {"libraries": libraries(tensorrt=None, tensorrt_lean="10.3.0")}),
        ({"hardware_compatibility": "ampere_plus", "compute_capability": (8, 0)}, {"device": PC}),
        ({"backend": {"version": "10.3.0"}}, {"libraries": libraries(tensorrt="10.3.0.26")}),
    ],
)
def test_compatible_plans_pass(facts: Any, here: Any) -> None:
    assert check_target(manifest(**{"l4t": "", **facts}), board(**here)) == ()


def test_the_command_names_the_recipe_where_there_is_one(tmp_path: Path) -> None:
    plan = stored(tmp_path)
    (tmp_path / "engines/m.toml").touch()
    with pytest.raises(PlanTargetError, match=r"build it here: edge-runtime build .*engines/m\.toml$"):
        preflight(plan, board(gpu=Gpu("", (11, 0))))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (b"ftrt" + bytes(20) + bytes([10, 7, 0, 1]) + bytes(200), r"got one of tensorrt 10\.7\.0\.1"),
        (b"\x08\x08" + bytes(200), "looks like ONNX"),
        (b"vtrt" + bytes(12) + bytes([228, 0, 0, 0, 0, 0, 0, 0, 10, 3, 0, 30]) + bytes(200), "tensorrt_rtx"),
    ],
)
def test_a_file_that_isnt_what_the_manifest_says_is_refused(tmp_path: Path, plan: bytes, message: str) -> None:
    with pytest.raises(PlanCorruptError, match=message):
        preflight(stored(tmp_path, plan), board())


def test_a_shortened_plan_of_rtx_is_told_by_its_header(tmp_path: Path) -> None:
    plan = b"vtrt" + bytes(12) + (999).to_bytes(8, "little") + bytes([1, 7, 1, 116]) + bytes(200)
    rtx = {"name": "tensorrt_rtx", "version": "1.7.1.116"}
    with pytest.raises(PlanCorruptError, match="expected 999 bytes"):
        preflight(stored(tmp_path, plan, backend=rtx), board(PC, libraries=libraries(tensorrt_rtx="1.7.1.116")))


@pytest.mark.parametrize(
    ("text", "numbers"), [("10.3.0.30", (10, 3, 0, 30)), ("8.6.1.post1", (8, 6, 1)), ("unknown", None), ("10", None)]
)
def test_versions_are_compared_by_their_numbers(text: str, numbers: Any) -> None:
    assert version_numbers(text) == numbers


def test_an_rtx_plan_is_for_the_gpus_that_its_header_names(tmp_path: Path) -> None:
    head = (
        b"vtrt"
        + bytes(12)
        + (164).to_bytes(8, "little")
        + bytes([1, 7, 1, 116])
        + b"vtrt"
        + (0x08).to_bytes(4, "little")
    )
    plan = stored(tmp_path, head + bytes(128), backend={"name": "tensorrt_rtx", "version": "1.7.1.116"})
    here = {"libraries": libraries(tensorrt_rtx="1.7.1.116")}
    assert preflight(plan, board(PC, gpu=Gpu("", (8, 9)), **here)) == ()
    with pytest.raises(PlanTargetError, match=r"expected one of 8\.9, as its header says, got 12\.0"):
        preflight(plan, board(PC, gpu=Gpu("", (12, 0)), **here))


def test_a_plugin_library_must_be_private_unless_the_caller_names_it(tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.write_bytes(b"code")
    record = plugin_record(library)
    assert plugin_libraries("m", [record]) == (str(library),)
    library.chmod(0o666)
    with pytest.raises(PlanTargetError, match=r"nobody else to write it.*mode 666"):
        plugin_libraries("m", [record])
    assert plugin_libraries("m", [record], [str(library)]) == (str(library),)
    library.unlink()
    with pytest.raises(PlanTargetError, match="can't be used"):
        plugin_libraries("m", [record])


@pytest.mark.parametrize("where", ["1", ".", "1/deep"])
def test_a_plugin_library_that_came_with_a_plan_is_refused(tmp_path: Path, where: str) -> None:
    model = tmp_path / "engines" / "m"
    (model / "1" / "deep").mkdir(parents=True)
    (model / "1" / "manifest.json").touch()
    library = model / where / "ops.so"
    library.write_bytes(b"code")
    record = plugin_record(library)
    with pytest.raises(PlanTargetError, match="outside the folders of plans"):
        plugin_libraries("m", [record])
    assert plugin_libraries("m", [record], [str(library)]) == (str(library),)


@pytest.mark.parametrize("path", ["ops.so", "a\0b", "\ud800"])
def test_a_plugin_path_that_names_no_library_is_refused(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ops.so").write_bytes(b"code")
    with pytest.raises(PlanTargetError, match="plugin library"):
        plugin_libraries("m", [PluginRecord(path=path, sha256=plugin_record(Path("ops.so")).sha256)])
