"""What this machine can run, found out from files and without starting a program or TensorRT."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

from edge_runtime.builder.backend import backend_name, resolve_backend
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.config import environment_layer, validated
from edge_runtime.device.container import is_container
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.errors import EdgeRuntimeError, PlanError
from edge_runtime.plan.board import ONNXRUNTIME
from edge_runtime.plan.store import PlanStore
from edge_runtime.provisioning.board import (
    device_finding,
    jetpack_finding,
    memory_finding,
    permissions_finding,
    power_mode_finding,
    swap_finding,
    telemetry_finding,
)
from edge_runtime.provisioning.findings import FAILED, OK, WARNING, Finding, Situation, gibibytes
from edge_runtime.provisioning.gpu import gpu_finding
from edge_runtime.provisioning.libraries import onnxruntime_finding, python_finding, tensorrt_finding
from edge_runtime.provisioning.software import Software, installed_software
from edge_runtime.provisioning.unit.findings import service_findings

if TYPE_CHECKING:
    from edge_runtime.device.cuda.loading import CudaProbe

_LITTLE_DISK = 1 << 30


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which they matter."""

    device: DeviceInfo
    findings: List[Finding]

    @property
    def is_sound(self) -> bool:
        """Whether plans can be built and served here."""
        return all(finding.state != FAILED for finding in self.findings)

    @property
    def remedies(self) -> List[Finding]:
        """The findings that something mends."""
        return [finding for finding in self.findings if finding.remedy]

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        return {
            "sound": self.is_sound,
            "device": self.device.record(),
            "findings": [asdict(finding) for finding in self.findings],
        }


def diagnose(
    engines: Path,
    root: Path = Path("/"),
    software: Software | None = None,
    probe: Callable[[], CudaProbe] | None = None,
) -> Diagnosis:
    """Looks at the machine below `root`, at what is installed, at the GPU and at the engine store.

    `software` and `probe` stand for what this Python has and for its CUDA.
    """
    device = identify(root)
    installed = software or installed_software()
    situation = Situation(root, device, installed, is_container(root), _needs_gpu(device, installed))
    findings = [
        python_finding(situation),
        device_finding(situation),
        jetpack_finding(situation),
        gpu_finding(situation, probe),
        tensorrt_finding(situation),
        onnxruntime_finding(situation),
        permissions_finding(situation),
        memory_finding(situation),
        swap_finding(situation),
        power_mode_finding(situation),
        _disk(engines),
        _backend(situation),
        _store(engines),
        telemetry_finding(situation),
        *service_findings(root),
    ]
    return Diagnosis(device, findings)


def _backend_table() -> BackendTable:
    return validated(BackendTable, environment_layer(os.environ, ("backend",)).get("backend", {}), "[backend]")


def _needs_gpu(device: DeviceInfo, software: Software) -> bool:
    try:
        table = _backend_table()
        return not table.fallback and backend_name(table, device, software.libraries) != ONNXRUNTIME
    except EdgeRuntimeError:
        return device.has_gpu


def _backend(situation: Situation) -> Finding:
    device, why, remedy = situation.device, "", ""
    try:
        table = _backend_table()
        why, remedy = _why(table, device)
        backend = resolve_backend(table, device, situation.software.libraries)
    except EdgeRuntimeError as error:
        return Finding("backend", FAILED, str(error), remedy)
    return Finding("backend", OK, f"{backend.name} {backend.version} on {backend.device}: {why}")


def _why(table: BackendTable, device: DeviceInfo) -> Tuple[str, str]:
    """Why a backend is the one, and what chooses another that needs no GPU."""
    if table.name != "auto":
        return f"the environment names {table.name}", "unset EDGE_RUNTIME_BACKEND__NAME"
    if not device.has_gpu:
        return "`auto`, and no NVIDIA GPU is expected here", ""
    if table.fallback:
        return f"`auto`, a GPU is expected here, and where it can't be used the fallback is {table.fallback}", ""
    return "`auto`, and an NVIDIA GPU is expected here", "export EDGE_RUNTIME_BACKEND__FALLBACK=onnxruntime"


def _disk(engines: Path) -> Finding:
    folder = engines.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", WARNING, f"free space of {folder} isn't known: {error.strerror}")
    text = f"{gibibytes(free)} free at {folder}"
    if free >= _LITTLE_DISK:
        return Finding("disk", OK, text)
    return Finding("disk", WARNING, text, "export EDGE_RUNTIME_ENGINES=FOLDER, with a folder on a disk with more space")


def _store(engines: Path) -> Finding:
    store = PlanStore(engines)
    problems = []
    served = []
    try:
        for name in store.models():
            try:
                stored = store.open(name)
                stored.read_plan()
                served.append(f"{name} version {stored.manifest.version}")
            except EdgeRuntimeError as error:
                problems.append(str(error))
    except PlanError as error:
        problems.append(str(error))
    if problems:
        return Finding("engine store", FAILED, "; ".join(problems))
    folder = engines if engines.is_dir() else engines.absolute().parent
    if not os.access(folder, os.W_OK):
        text = f"{folder} can't be written, so nothing can be built into it"
        return Finding("engine store", WARNING, text, f"sudo chown $USER {folder}")
    return Finding("engine store", OK, f"{engines}: {', '.join(served) or 'no plan yet'}")
