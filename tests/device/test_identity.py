from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.device.identity import identify


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
