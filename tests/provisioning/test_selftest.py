from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
from fakes.board_machine import NANO, ORIN, XAVIER, use_machine
from fakes.cuda import DISCRETE, FakeCuda

from edge_runtime.builder.progress import LoggedProgress
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.device.cuda.port import CopyKind
from edge_runtime.errors import BackendError
from edge_runtime.provisioning import selftest as module
from edge_runtime.provisioning.cuda_check import cuda_checks
from edge_runtime.provisioning.selftest import FAILED, OK, SKIPPED, SelfTest, selftest


def outcome(**table: Any) -> SelfTest:
    return selftest(BackendTable(**table), LoggedProgress())


def states(test: SelfTest) -> Dict[str, str]:
    return {step.name: step.state for step in test.steps}


def on_board(monkeypatch: pytest.MonkeyPatch, folder: Path, surface: str, device: Any, **board: Any) -> None:
    use_machine(monkeypatch, folder / "board", surface, device, **board)
    monkeypatch.setattr(module, "identify", lambda: device)


def test_a_machine_without_a_gpu_passes_on_onnx_runtime() -> None:
    test = outcome()
    assert test.is_sound, test.steps
    assert set(states(test).values()) == {OK}
    assert {"reference", "run fp32", "run fp16", "run int8", "layers of int8"} <= set(states(test))


@pytest.mark.tensorrt
def test_without_a_gpu_rtx_builds_and_says_that_nothing_ran() -> None:
    pytest.importorskip("tensorrt_rtx")
    found = states(outcome(name="tensorrt_rtx"))
    assert [found[f"build {precision}"] for precision in ("fp32", "fp16", "int8")] == [OK] * 3
    assert [found[f"run {precision}"] for precision in ("fp32", "fp16", "int8")] == [SKIPPED] * 3


@pytest.mark.parametrize(
    ("surface", "device"),
    [
        pytest.param("8.2", XAVIER, marks=pytest.mark.slow),
        ("10.3", ORIN),
        pytest.param("8.6", ORIN, marks=pytest.mark.slow),
        pytest.param("11.4", ORIN, marks=pytest.mark.slow),
    ],
)
def test_a_board_runs_every_precision_in_every_mode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, surface: str, device: Any
) -> None:
    on_board(monkeypatch, tmp_path, surface, device)
    test = outcome()
    assert test.is_sound, [step for step in test.steps if step.state == FAILED]
    names = set(states(test))
    modes = [f"{memory} memory, graphs {graphs}" for memory in ("copy", "mapped") for graphs in ("auto", "off")]
    assert {f"run {precision}, {mode}" for precision in ("fp32", "fp16", "int8") for mode in modes} <= names
    in_place = "can't be used in place" if surface == "8.2" else "used in place"  # 8.2's GPU is a Nano's
    assert all(
        step.text.endswith(f"a client's memory {in_place}") for step in test.steps if step.name.startswith("run ")
    )
    assert {"pinned memory", "mapped memory", "events", "CUDA graphs", "layers of fp16"} <= names


def test_a_board_without_int8_skips_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_board(monkeypatch, tmp_path, "8.2", NANO)
    test = outcome()
    assert test.is_sound, test.steps
    assert states(test)["build int8"] == SKIPPED


def test_what_fails_is_a_step_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_board(monkeypatch, tmp_path, "10.3", ORIN, build_error="no kernel for conv")
    test = outcome()
    assert not test.is_sound
    failed = {step.name: step.text for step in test.steps if step.state == FAILED}
    assert {"build fp32", "build fp16", "build int8"} == set(failed)
    assert "no kernel for conv" in failed["build fp16"]


def test_a_wrong_answer_of_the_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(workshop: Any) -> List[Any]:
        return [{name: -value for name, value in outputs.items()} for outputs in reference(workshop)]

    reference = module._reference
    monkeypatch.setattr(module, "_reference", wrong)
    failed = [step for step in outcome().steps if step.state == FAILED]
    assert {step.name for step in failed} == {"run fp32", "run fp16", "run int8"}
    assert "expected 0.9999 or more, got -1" in failed[0].text


def test_the_report_is_json_and_names_no_path() -> None:
    text = json.dumps(outcome().record())
    assert json.loads(text)["schema"] == 1
    assert str(Path.home()) not in text
    assert "/tmp" not in text


def test_without_a_temporary_folder_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(BackendError, match=r"selftest: no temporary folder .*; set TMPDIR to another"):
        outcome()


@pytest.mark.parametrize("attributes", [None, DISCRETE])
def test_the_checks_of_cuda_pass_on_a_sound_one(attributes: Any) -> None:
    cuda = FakeCuda() if attributes is None else FakeCuda(attributes)
    cuda.use_device(0)
    checks = cuda_checks(cuda.attributes(0), cuda.has_graphs)
    assert all(isinstance(check, str) or check(cuda) for _, check in checks)
    assert len(checks) == 5
    cuda.check_leaks()


def test_a_copy_that_loses_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    cuda.use_device(0)
    copy = cuda.copy_async

    def lossy(destination: int, source: int, nbytes: int, kind: CopyKind, stream: int) -> None:
        copy(destination, source, nbytes - 1 if kind is CopyKind.DEVICE_TO_HOST else nbytes, kind, stream)

    monkeypatch.setattr(cuda, "copy_async", lossy)
    checks = dict(cuda_checks(cuda.attributes(0), cuda.has_graphs))
    for name in ("pinned memory", "CUDA graphs"):
        check = checks[name]
        assert not isinstance(check, str)
        with pytest.raises(BackendError, match=f"{name}: the bytes that came back"):
            check(cuda)
