"""Machines as `doctor` sees them, over the trees of fakes/boards.py."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.device.container import is_container
from edge_runtime.device.identity import identify
from edge_runtime.provisioning.findings import Situation
from edge_runtime.provisioning.software import Software


def software(
    python: str = "3.10.12", tensorrt: str | None = None, is_isolated: bool = False, **libraries: str | None
) -> Software:
    versions = {"tensorrt": tensorrt, "tensorrt_rtx": None, "tensorrt_lean": None, "onnxruntime": "1.20.1"}
    return Software(python, "2.35", is_isolated, {**versions, **libraries})


def situation(root: Path, installed: Software | None = None, needs_gpu: bool | None = None) -> Situation:
    device = identify(root)
    needed = device.has_gpu if needs_gpu is None else needs_gpu
    return Situation(root, device, installed or software(), is_container(root), needed)
