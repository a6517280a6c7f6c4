"""A fake board as the whole product sees it: its identity, its TensorRT and GPU in this process and in children."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.board_setup import InProcess, child_environment, use_in_process

from edge_runtime.builder import job
from edge_runtime.device.identity import DeviceInfo
from edge_runtime.plan import board as plan_board

NANO = DeviceInfo("jetson", "NVIDIA Jetson Nano Developer Kit", "aarch64", "A57", "tegra210", "Nano 4GB", "32.7.4")
XAVIER = DeviceInfo("jetson", "NVIDIA Jetson Xavier NX", "aarch64", "Carmel", "tegra194", "Xavier NX", "32.7.4")
ORIN = DeviceInfo("jetson", "NVIDIA Jetson AGX Orin", "aarch64", "A78AE", "tegra234", "AGX Orin 64GB", "36.4.7")
PC = DeviceInfo("nvidia", "none", "x86_64", "some CPU")


def use_machine(
    monkeypatch: pytest.MonkeyPatch, folder: Path, surface: str, device: DeviceInfo = ORIN, **board: Any
) -> InProcess:
    """Makes this process, and those that it starts, run on a fake board until the test ends."""
    capability = device.compute_capability or (8, 9)
    board = {"compute_capability": capability, **board}
    environment = child_environment(folder, surface, **board)
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "FAKE_TENSORRT", "FAKE_TENSORRT_BOARD"):
        monkeypatch.setenv(name, environment[name])
    for module in (job, plan_board):
        monkeypatch.setattr(module, "identify", lambda: device)
    return use_in_process(monkeypatch, surface, **board)
