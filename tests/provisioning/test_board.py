from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from fakes import boards
from fakes.situations import situation, software

from edge_runtime.device.permissions import DeviceNode, Permissions
from edge_runtime.provisioning.board import (
    device_finding,
    jetpack_finding,
    memory_finding,
    permissions_finding,
    power_mode_finding,
    swap_finding,
    telemetry_finding,
)
from edge_runtime.provisioning.findings import FAILED, OK, WARNING


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (boards.nano_jp4, ["Nano 4GB", "Maxwell 5.3", "FP16, no INT8", "no tensor cores", "no DLA"]),
        (boards.xavier_nx_jp5, ["Xavier NX", "Volta 7.2", "FP16 and INT8", ", tensor cores", "2 DLA"]),
        (boards.orin_nano_jp6, ["Orin Nano 8GB", "Engineering Reference", "Ampere 8.7", "no DLA"]),
        (boards.orin_nx_jp6, ["Orin NX 16GB", "2 DLA"]),
        (boards.agx_orin_jp7, ["AGX Orin 64GB", "2 DLA"]),
        (boards.thor_jp7, ["Thor", "Blackwell 11.0", "no DLA"]),
        (boards.pc, ["nvidia: AMD Ryzen 9"]),
        (boards.orin_container, ["Orin NX 16GB (in a container)"]),
        (boards.cpu, ["cpu: Intel"]),
    ],
)
def test_the_machine_is_described(tmp_path: Path, make: Callable[[Path], Path], parts: list) -> None:
    found = device_finding(situation(make(tmp_path)))
    assert found.state == OK
    assert all(part in found.text for part in parts), found.text


def test_a_jetson_that_this_version_does_not_know_is_said_to_be_one(tmp_path: Path) -> None:
    files = boards.device_tree("NVIDIA Jetson Next", "nvidia,p9999-0000", "nvidia,tegra999")
    text = device_finding(situation(boards.tree(tmp_path, files))).text
    assert "a module that this version doesn't know" in text
    assert "a system on chip that this version doesn't know" in text


def test_jetpack_is_named_with_what_it_ships(tmp_path: Path) -> None:
    found = jetpack_finding(situation(boards.orin_nano_jp6(tmp_path), software(tensorrt="10.3.0")))
    assert found.state == OK
    assert found.text == "L4T 36.4.7, JetPack 6.2.1: CUDA 12.6, TensorRT 10.3.0.30, Python 3.10"


@pytest.mark.parametrize(
    ("tensorrt", "state"),
    [("10.3.0.30", OK), ("10.3.0", OK), (None, OK), ("unknown", OK), ("10.11.0.33", WARNING), ("8.6.2", WARNING)],
)
def test_a_tensorrt_that_is_not_jetpacks_is_a_warning(tmp_path: Path, tensorrt: str | None, state: str) -> None:
    found = jetpack_finding(situation(boards.orin_nano_jp6(tmp_path), software(tensorrt=tensorrt)))
    assert found.state == state
    assert state == OK or f"TensorRT here is {tensorrt}" in found.text


@pytest.mark.parametrize(
    ("release", "text"),
    [("36.9.1-1", "JetPack 6.x (which one"), ("99.1.0-1", "isn't known to this version"), ("none", "not found")],
)
def test_an_unknown_release_is_no_guess(tmp_path: Path, release: str, text: str) -> None:
    files = boards.device_tree("Jetson", "nvidia,p3767-0005", "nvidia,tegra234")
    found = jetpack_finding(situation(boards.tree(tmp_path, files, boards.package(release))))
    assert text in found.text
    assert "CUDA" not in found.text


def permissions(*nodes: DeviceNode) -> Permissions:
    return Permissions(list(nodes), {1000})


NVMAP = DeviceNode("nvmap", "video", 44, True, False)
RENDER = DeviceNode("dri/renderD128", "render", 104, True, False)
OPEN = DeviceNode("nvhost-gpu", "video", 44, True, True)


@pytest.mark.parametrize(
    ("nodes", "state", "remedy"),
    [
        ([NVMAP, RENDER], FAILED, "sudo usermod -aG render,video $USER, then log in again"),
        ([OPEN, RENDER], WARNING, "sudo usermod -aG render $USER, then log in again"),
        ([OPEN], OK, ""),
        ([], FAILED, "sudo dmesg | grep -iE 'nvgpu|nvrm'"),
    ],
)
def test_closed_device_nodes_are_found_with_the_line_that_opens_them(
    tmp_path: Path, nodes: list, state: str, remedy: str
) -> None:
    found = permissions_finding(situation(boards.orin_nano_jp6(tmp_path)), permissions(*nodes))
    assert (found.state, found.remedy) == (state, remedy)


def test_closed_device_nodes_are_a_warning_where_plans_run_on_the_cpu(tmp_path: Path) -> None:
    here = situation(boards.orin_nano_jp6(tmp_path), needs_gpu=False)
    assert permissions_finding(here, permissions(NVMAP)).state == WARNING


def test_only_a_few_of_many_nodes_are_named(tmp_path: Path) -> None:
    nodes = [DeviceNode(f"nvidia{n}", "video", 44, True, False) for n in range(9)]
    text = permissions_finding(situation(boards.pc(tmp_path)), permissions(*nodes)).text
    assert text.count("/dev/") == 4
    assert "and 5 more" in text


def test_a_pc_needs_no_render_node(tmp_path: Path) -> None:
    assert permissions_finding(situation(boards.pc(tmp_path)), permissions(OPEN, RENDER)).state == OK


def test_a_container_without_the_gpu_is_told_how_it_gets_one(tmp_path: Path) -> None:
    found = permissions_finding(situation(boards.orin_container(tmp_path)))
    assert (found.state, found.remedy) == (FAILED, "docker run --runtime nvidia")


def test_a_container_without_the_group_is_told_how_it_gets_it(tmp_path: Path) -> None:
    found = permissions_finding(situation(boards.orin_container(tmp_path)), permissions(NVMAP))
    assert found.remedy == "docker run --runtime nvidia --group-add video"


def test_memory_of_a_jetson_counts_what_the_gpu_holds(tmp_path: Path) -> None:
    found = memory_finding(situation(boards.orin_nano_jp6(tmp_path)))
    assert (found.state, found.text) == (OK, "4.9 GiB available of 7.4 GiB; the GPU holds 0.8 GiB")


def test_memory_of_a_container_is_what_its_limit_leaves(tmp_path: Path) -> None:
    text = memory_finding(situation(boards.orin_container(tmp_path))).text
    assert text == "1.0 GiB available of 15.2 GiB, limited to 2.0 GiB by the control group"


def test_little_memory_is_a_warning_and_the_desktop_is_what_to_stop(tmp_path: Path) -> None:
    root = boards.tree(boards.nano_jp4(tmp_path), boards.meminfo(4_059_196, 500_000, 0))
    found = memory_finding(situation(root))
    assert (found.state, found.remedy) == (WARNING, "sudo systemctl stop display-manager")


@pytest.mark.parametrize("finding", [memory_finding, swap_finding])
def test_memory_that_cannot_be_read_is_unknown(tmp_path: Path, finding: Callable) -> None:
    found = finding(situation(tmp_path))
    assert (found.state, found.text) == (WARNING, "not known: /proc/meminfo can't be read")


@pytest.mark.parametrize(
    ("make", "total_kb", "state"),
    [(boards.orin_nano_jp6, 7_789_000, WARNING), (boards.agx_orin_jp7, 64_350_000, OK), (boards.cpu, 7_789_000, OK)],
)
def test_no_swap_is_a_warning_on_a_small_jetson_alone(
    tmp_path: Path, make: Callable[[Path], Path], total_kb: int, state: str
) -> None:
    root = boards.tree(make(tmp_path), boards.meminfo(total_kb, total_kb, 0))
    found = swap_finding(situation(root))
    assert found.state == state
    assert ("mkswap" in found.remedy) == (state == WARNING)


def test_swap_is_told_with_what_is_free(tmp_path: Path) -> None:
    assert swap_finding(situation(boards.orin_nano_jp6(tmp_path))).text == "3.7 GiB, 1.9 GiB free"


def test_the_power_mode_is_told_by_name_with_the_others(tmp_path: Path) -> None:
    found = power_mode_finding(situation(boards.orin_nano_jp6(tmp_path)))
    assert found.state == OK
    assert found.text.startswith("MAXN_SUPER (also: 15W, 25W, 7W), clocks not pinned;")


def test_pinned_clocks_are_told(tmp_path: Path) -> None:
    assert ", clocks pinned;" in power_mode_finding(situation(boards.agx_orin_jp7(tmp_path))).text


def test_an_unknown_power_mode_is_not_taken_for_the_default(tmp_path: Path) -> None:
    root = boards.orin_nano_jp6(tmp_path)
    (root / "var/lib/nvpmodel/status").unlink()
    found = power_mode_finding(situation(root))
    assert (found.state, found.remedy) == (WARNING, "sudo nvpmodel -q")
    assert found.text.startswith("not known")
    assert found.text.endswith("its default is 25W")


def test_a_container_is_told_which_files_hold_the_power_mode(tmp_path: Path) -> None:
    remedy = power_mode_finding(situation(boards.orin_container(tmp_path))).remedy
    assert remedy.startswith("docker run -v /var/lib/nvpmodel:")


def test_tegrastats_is_found_where_it_can_run(tmp_path: Path) -> None:
    here = situation(boards.nano_jp4(tmp_path))
    (tmp_path / "usr/bin/tegrastats").chmod(0o755)
    assert telemetry_finding(here).state == OK
    (tmp_path / "usr/bin/tegrastats").unlink()
    found = telemetry_finding(here)
    assert (found.state, found.remedy) == (WARNING, "sudo apt-get install nvidia-l4t-tools")


def test_a_container_is_told_to_bind_tegrastats(tmp_path: Path) -> None:
    assert telemetry_finding(situation(boards.orin_container(tmp_path))).remedy.startswith("docker run -v /usr/bin/")


@pytest.mark.parametrize("make", [boards.pc, boards.cpu])
@pytest.mark.parametrize("finding", [jetpack_finding, power_mode_finding, telemetry_finding])
def test_what_only_a_jetson_has_is_no_fault_elsewhere(
    tmp_path: Path, make: Callable[[Path], Path], finding: Callable
) -> None:
    found = finding(situation(make(tmp_path)))
    assert found.state == OK
    assert "no Jetson" in found.text
