from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from fakes import boards

from edge_runtime.device.identity import identify, saturates_int8


def machine(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("files", "kind", "board"),
    [
        ({}, "cpu", "none"),
        (
            {
                "proc/device-tree/model": b"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
                "proc/device-tree/compatible": b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
            },
            "jetson",
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        ),
        (
            {"proc/device-tree/model": b"Raspberry Pi 4\0", "proc/device-tree/compatible": b"brcm\0"},
            "cpu",
            "Raspberry Pi 4",
        ),
        ({"dev/nvidia0": b""}, "nvidia", "none"),
        ({"dev/nvhost-ctrl-gpu": b""}, "nvidia", "none"),
    ],
)
def test_a_machine_is_a_jetson_has_a_gpu_or_neither(
    tmp_path: Path, files: dict[str, bytes], kind: str, board: str
) -> None:
    info = identify(machine(tmp_path, files))
    assert (info.kind, info.board, info.has_gpu) == (kind, board, kind != "cpu")


def test_the_cpu_is_named(tmp_path: Path) -> None:
    cpuinfo = b"processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: other\n"
    assert identify(machine(tmp_path, {"proc/cpuinfo": cpuinfo})).cpu == "AMD EPYC"


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates"),
    [
        ("x86_64", "fpu avx2", True),
        ("x86_64", "fpu avx2 avx512_vnni", False),
        ("AMD64", "avx_vnni", False),
        ("x86_64", "", True),
        ("aarch64", "", False),
    ],
)
def test_int8_saturates_on_x86_without_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, flags: str, saturates: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: architecture)
    cpuinfo = f"processor\t: 0\nflags\t\t: {flags}\nprocessor\t: 1\nflags\t\t: avx_vnni\n".encode()
    assert saturates_int8(machine(tmp_path, {"proc/cpuinfo": cpuinfo})) is saturates


@pytest.mark.parametrize(
    ("soc", "capability", "has_int8"),
    [
        ("tegra210", (5, 3), False),
        ("tegra186", (6, 2), False),
        ("tegra194", (7, 2), True),
        ("tegra234", (8, 7), True),
        ("tegra264", (11, 0), True),
        ("tegra999", None, True),
    ],
)
def test_the_system_on_chip_says_whether_there_is_int8(
    tmp_path: Path, soc: str, capability: tuple[int, int] | None, has_int8: bool
) -> None:
    compatible = f"nvidia,p3450-0000\0nvidia,jetson-nano\0nvidia,{soc}\0".encode()
    device = identify(machine(tmp_path, {"proc/device-tree/compatible": compatible}))
    assert (device.compute_capability, device.has_int8) == (capability, has_int8)


@pytest.mark.parametrize(
    ("make", "module", "l4t", "jetpack", "dla_cores"),
    [
        (boards.nano_jp4, "Nano 4GB", "32.7.1", "4.6.1", 0),
        (boards.xavier_nx_jp5, "Xavier NX", "35.4.1", "5.1.2", 2),
        (boards.orin_nano_jp6, "Orin Nano 8GB", "36.4.7", "6.2.1", 0),
        (boards.orin_nx_jp6, "Orin NX 16GB", "36.4.3", "6.2", 2),
        (boards.agx_orin_jp7, "AGX Orin 64GB", "39.2.0", "7.2", 2),
        (boards.thor_jp7, "Thor", "38.4.0", "7.1", 0),
    ],
)
def test_a_jetson_is_known_by_its_module_and_its_release(
    tmp_path: Path, make: Callable[[Path], Path], module: str, l4t: str, jetpack: str, dla_cores: int
) -> None:
    device = identify(make(tmp_path))
    assert (device.kind, device.module, device.l4t) == ("jetson", module, l4t)
    assert device.jetpack is not None
    assert (device.jetpack.name, device.dla_cores) == (jetpack, dla_cores)


@pytest.mark.parametrize("make", [boards.pc, boards.cpu])
def test_what_is_no_jetson_has_no_module_no_release_and_no_dla(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    device = identify(boards.tree(make(tmp_path), boards.release(36, "4.7")))
    assert (device.soc, device.module, device.l4t, device.jetpack, device.dla_cores) == ("", "", "", None, 0)


def test_the_record_is_the_same_whatever_the_board_does_meanwhile(tmp_path: Path) -> None:
    before = identify(boards.orin_nano_jp6(tmp_path)).record()
    changed = boards.power("pmode:0000", {0: "15W"}, 0)
    after = identify(boards.tree(tmp_path, boards.meminfo(7_789_000, 1, 1), changed, {"proc/loadavg": "9 9 9"}))
    assert after.record() == before
    assert set(before) == {"kind", "board", "machine", "cpu", "soc", "module", "l4t"}
