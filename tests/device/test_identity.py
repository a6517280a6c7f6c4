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
