from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest
from fakes import boards
from fakes.situations import situation, software

from edge_runtime.device.cuda.loading import CudaProbe
from edge_runtime.provisioning.doctor import FAILED, OK, WARNING, Diagnosis, Finding, diagnose
from edge_runtime.provisioning.gpu import gpu_finding

SUBJECTS = [
    "python",
    "device",
    "jetpack",
    "gpu",
    "tensorrt",
    "onnxruntime",
    "permissions",
    "memory",
    "swap",
    "power mode",
    "disk",
    "backend",
    "engine store",
    "telemetry",
    "service",
]


WORKING = CudaProbe("cuda-python 12.6.0", 1, 12060)
ABSENT = CudaProbe("", 0, 12060, "CUDA 12.6: no library for it", "pip install 'cuda-python>=12,<13'")
DRIVERLESS = CudaProbe("", 0, None, "CUDA: no driver (libcuda.so.1) on this machine", "install the NVIDIA driver")


def look(root: Path, probe: CudaProbe = WORKING) -> Diagnosis:
    return diagnose(root / "engines", root, software(tensorrt="10.3.0"), lambda: probe)


def finding(diagnosis: Diagnosis, subject: str) -> Finding:
    (found,) = [f for f in diagnosis.findings if f.subject == subject]
    return found


@pytest.mark.parametrize("make", boards.BOARDS)
def test_every_machine_gets_every_finding_in_the_order_in_which_they_matter(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    diagnosis = look(make(tmp_path))
    assert [f.subject for f in diagnosis.findings] == SUBJECTS
    assert {f.state for f in diagnosis.findings} <= {OK, WARNING, FAILED}
    assert all(f.text for f in diagnosis.findings)
    assert not any(f.remedy for f in diagnosis.findings if f.state == OK)


@pytest.mark.parametrize("make", boards.BOARDS)
def test_no_program_is_started(tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    for owner, name in ((subprocess, "Popen"), (os, "system"), (os, "fork"), (os, "posix_spawn")):
        monkeypatch.setattr(owner, name, refuse)
    look(make(tmp_path))


def test_a_machine_without_a_gpu_is_sound_and_told_what_it_cannot_measure(tmp_path: Path) -> None:
    diagnosis = look(boards.cpu(tmp_path))
    assert diagnosis.is_sound
    assert diagnosis.remedies == []
    assert finding(diagnosis, "backend").text.startswith("onnxruntime 1.20.1 on cpu: `auto`")
    assert "everything runs on ONNX Runtime CPU" in finding(diagnosis, "gpu").text
    assert "not measured here" in finding(diagnosis, "gpu").text
    assert diagnosis.record()["device"]["kind"] == "cpu"


def test_the_record_has_the_remedy_of_each_finding(tmp_path: Path) -> None:
    record = look(boards.orin_container(tmp_path)).record()
    assert set(record) == {"sound", "device", "findings"}
    remedies = {f["subject"]: f["remedy"] for f in record["findings"]}
    assert list(remedies) == SUBJECTS
    assert remedies["permissions"] == "docker run --runtime nvidia"
    assert remedies["disk"] == ""


def test_a_machine_with_a_gpu_that_cannot_be_used_is_not_sound(tmp_path: Path) -> None:
    diagnosis = look(boards.pc(tmp_path), DRIVERLESS)
    assert not diagnosis.is_sound
    assert finding(diagnosis, "gpu") == Finding("gpu", FAILED, DRIVERLESS.problem, DRIVERLESS.remedy)


def test_a_gpu_that_cannot_be_used_is_a_warning_where_the_fallback_is_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_BACKEND__FALLBACK", "onnxruntime")
    diagnosis = look(boards.pc(tmp_path), ABSENT)
    assert finding(diagnosis, "gpu").state == WARNING
    assert finding(diagnosis, "backend").text.endswith("the fallback is onnxruntime")
    assert diagnosis.is_sound


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (boards.orin_nano_jp6, "tensorrt 10.3.0 on gpu:0: `auto`, and an NVIDIA GPU is expected here"),
        (boards.cpu, "onnxruntime 1.20.1 on cpu: `auto`, and no NVIDIA GPU is expected here"),
    ],
)
def test_the_backend_is_told_with_the_reason(tmp_path: Path, make: Callable[[Path], Path], text: str) -> None:
    assert finding(look(make(tmp_path)), "backend") == Finding("backend", OK, text)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("auto", "export EDGE_RUNTIME_BACKEND__FALLBACK=onnxruntime"), ("tensorrt", "unset EDGE_RUNTIME_BACKEND__NAME")],
)
def test_a_backend_that_is_missing_is_told_with_the_line_that_chooses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_BACKEND__NAME", name)
    found = finding(diagnose(tmp_path, boards.pc(tmp_path), software(), lambda: WORKING), "backend")
    assert (found.state, found.remedy) == (FAILED, remedy)


def test_a_setting_that_is_wrong_is_told_by_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_BACKEND__NAME", "nonsense")
    found = finding(look(boards.cpu(tmp_path)), "backend")
    assert (found.state, found.remedy) == (FAILED, "")
    assert "nonsense" in found.text


@pytest.mark.parametrize(("count", "text"), [(1, "1 device, reached through"), (2, "2 devices, reached through")])
def test_a_gpu_that_answers_is_told_with_its_adapter(tmp_path: Path, count: int, text: str) -> None:
    found = gpu_finding(situation(boards.pc(tmp_path)), lambda: replace(WORKING, device_count=count))
    assert found.state == OK
    assert found.text == f"{text} cuda-python 12.6.0; the driver serves CUDA 12.6"


def test_a_gpu_that_nobody_sees_is_told(tmp_path: Path) -> None:
    found = gpu_finding(situation(boards.pc(tmp_path)), lambda: replace(WORKING, device_count=0))
    assert (found.state, found.text) == (FAILED, "cuda-python 12.6.0 sees no device")


@pytest.mark.parametrize(
    ("make", "probe", "remedy"),
    [
        (boards.nano_jp4, ABSENT, "pip install 'edge-runtime[jp4]'"),
        (boards.nano_jp4, DRIVERLESS, DRIVERLESS.remedy),
        (boards.pc, ABSENT, ABSENT.remedy),
    ],
)
def test_a_missing_adapter_is_installed_by_the_line_for_this_jetpack(
    tmp_path: Path, make: Callable[[Path], Path], probe: CudaProbe, remedy: str
) -> None:
    found = gpu_finding(situation(make(tmp_path)), lambda: probe)
    assert (found.state, found.text, found.remedy) == (FAILED, probe.problem, remedy)


def test_the_cuda_of_this_python_is_asked_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.device.cuda.loading.probe", lambda: DRIVERLESS)
    assert gpu_finding(situation(boards.pc(tmp_path))).text == DRIVERLESS.problem


def test_a_broken_plan_is_found(tmp_path: Path) -> None:
    version = tmp_path / "engines/m/1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{}")
    found = finding(look(tmp_path), "engine store")
    assert found.state == FAILED
    assert "manifest.json" in found.text


def test_a_store_that_cannot_be_listed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, listed = tmp_path / "engines", os.listdir
    engines.mkdir()

    def refuse(path: object = ".") -> list:
        if path == engines:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", refuse)
    found = finding(look(tmp_path), "engine store")
    assert (found.state, "Permission denied" in found.text) == (FAILED, True)


def test_a_store_that_cannot_be_written_is_a_warning_with_the_line_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = finding(look(tmp_path), "engine store")
    assert (found.state, found.remedy) == (WARNING, f"sudo chown $USER {tmp_path}")


@pytest.mark.parametrize(("free", "state"), [(5 << 30, OK), (100 << 20, WARNING)])
def test_little_free_space_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("edge_runtime.provisioning.doctor.shutil.disk_usage", lambda folder: usage)
    found = finding(look(tmp_path), "disk")
    assert found.state == state
    assert found.text.endswith(f"free at {tmp_path}")


def test_free_space_that_cannot_be_asked_for_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("edge_runtime.provisioning.doctor.shutil.disk_usage", refuse)
    found = finding(look(tmp_path), "disk")
    assert (found.state, "isn't known: Input/output error" in found.text) == (WARNING, True)


@pytest.mark.parametrize("content", [b"\xff\xfe\0" * 1000, b"9" * 5000, b"\n" * 1000])
def test_damaged_files_make_no_look_fail(tmp_path: Path, content: bytes) -> None:
    root = boards.tree(boards.orin_nano_jp6(tmp_path), dict.fromkeys(boards.READ_FILES, content))
    assert [f.subject for f in look(root).findings] == SUBJECTS
