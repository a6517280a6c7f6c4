from __future__ import annotations

from pathlib import Path

import pytest
from fakes import boards
from fakes.situations import situation, software

from edge_runtime.provisioning.findings import FAILED, OK, WARNING
from edge_runtime.provisioning.libraries import onnxruntime_finding, python_finding, tensorrt_finding

SYSTEM_ENVIRONMENT = "/usr/bin/python3 -m venv --system-site-packages .venv"


def test_python_is_told_with_its_c_library(tmp_path: Path) -> None:
    found = python_finding(situation(boards.orin_nano_jp6(tmp_path)))
    assert found.state == OK
    assert found.text.startswith("3.10.12 on ")
    assert found.text.endswith("glibc 2.35")


def test_a_python_that_is_not_jetpacks_is_a_warning_with_the_way_to_that_one(tmp_path: Path) -> None:
    found = python_finding(situation(boards.orin_nano_jp6(tmp_path), software("3.12.1")))
    assert (found.state, found.remedy) == (WARNING, SYSTEM_ENVIRONMENT)
    assert "Python 3.10" in found.text


@pytest.mark.parametrize("make", [boards.orin_container, boards.pc, boards.cpu])
def test_any_python_will_do_where_jetpack_has_no_libraries_for_it(tmp_path: Path, make: object) -> None:
    assert python_finding(situation(make(tmp_path), software("3.13.0"))).state == OK


def test_any_python_will_do_that_sees_tensorrt(tmp_path: Path) -> None:
    assert python_finding(situation(boards.nano_jp4(tmp_path), software("3.8.18", "8.2.1.9"))).state == OK


def test_tensorrt_is_told_by_its_version(tmp_path: Path) -> None:
    found = tensorrt_finding(situation(boards.pc(tmp_path), software(tensorrt="10.3.0")))
    assert (found.state, found.text) == (OK, "10.3.0, seen by this Python")


def test_an_environment_that_does_not_see_jetpacks_tensorrt_is_told_so(tmp_path: Path) -> None:
    found = tensorrt_finding(situation(boards.orin_nano_jp6(tmp_path), software(is_isolated=True)))
    assert (found.state, found.remedy) == (FAILED, SYSTEM_ENVIRONMENT)
    assert "/usr/lib/python3.10/dist-packages" in found.text
    assert "--system-site-packages" in found.text


def test_a_python_that_does_not_look_at_jetpacks_tensorrt_is_told_so(tmp_path: Path) -> None:
    found = tensorrt_finding(situation(boards.orin_nano_jp6(tmp_path)))
    assert (found.state, found.remedy) == (FAILED, SYSTEM_ENVIRONMENT)


def test_bindings_for_another_python_are_told_so(tmp_path: Path) -> None:
    found = tensorrt_finding(situation(boards.agx_orin_jp7(tmp_path), software("3.10.12")))
    assert found.text == "/usr/lib/python3.12/dist-packages has it for Python 3.12; this is Python 3.10"
    assert found.remedy == SYSTEM_ENVIRONMENT


def test_a_nano_needs_bindings_of_its_own(tmp_path: Path) -> None:
    found = tensorrt_finding(situation(boards.nano_jp4(tmp_path), software("3.8.18")))
    assert "for Python 3.6" in found.text
    assert found.remedy.startswith("build TensorRT's bindings")


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (boards.orin_nx_jp6, "sudo apt-get install python3-libnvinfer"),
        (boards.orin_container, "start from an image that has it: docs/jetson.md"),
        (boards.pc, "pip install 'edge-runtime[tensorrt,cuda]'"),
    ],
)
def test_the_line_that_installs_tensorrt_is_given(tmp_path: Path, make: object, remedy: str) -> None:
    assert tensorrt_finding(situation(make(tmp_path))).remedy == remedy


def test_no_tensorrt_is_a_warning_where_plans_run_on_the_cpu(tmp_path: Path) -> None:
    assert tensorrt_finding(situation(boards.pc(tmp_path), needs_gpu=False)).state == WARNING


def test_tensorrt_rtx_takes_the_place_of_tensorrt_on_a_pc_alone(tmp_path: Path) -> None:
    rtx = software(tensorrt_rtx="1.7.1.116")
    assert tensorrt_finding(situation(boards.pc(tmp_path / "pc"), rtx)).state == OK
    assert tensorrt_finding(situation(boards.orin_nano_jp6(tmp_path / "orin"), rtx)).state == FAILED


def test_no_tensorrt_is_no_fault_without_a_gpu(tmp_path: Path) -> None:
    assert tensorrt_finding(situation(boards.cpu(tmp_path))).state == OK


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (boards.nano_jp4, "pip install 'edge-runtime[jp4]'"),
        (boards.orin_nano_jp6, "pip install 'edge-runtime[jp6]'"),
        (boards.orin_container, "pip install 'edge-runtime[cuda]'"),
        (boards.pc, "pip install 'edge-runtime[tensorrt,cuda]'"),
    ],
)
def test_the_line_that_installs_the_rest_follows_jetpack(tmp_path: Path, make: object, line: str) -> None:
    assert situation(make(tmp_path)).install_line == line


@pytest.mark.parametrize(("version", "state"), [("1.20.1", OK), (None, FAILED)])
def test_onnxruntime_is_needed_everywhere(tmp_path: Path, version: str | None, state: str) -> None:
    found = onnxruntime_finding(situation(boards.cpu(tmp_path), software(onnxruntime=version)))
    assert (found.state, found.remedy) == (state, "" if version else "pip install onnxruntime")
