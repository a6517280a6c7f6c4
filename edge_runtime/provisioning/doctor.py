"""What this machine can run, found out without loading an engine library."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List

from edge_runtime import onnxruntime_api
from edge_runtime.builder.backend import resolve_backend
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.config import environment_layer, validated
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.plan.store import PlanStore

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `state` is `ok`, `warning` or `failed`."""

    subject: str
    state: str
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which they matter."""

    device: DeviceInfo
    findings: List[Finding]

    @property
    def is_sound(self) -> bool:
        """Whether plans can be built and served here."""
        return all(finding.state != FAILED for finding in self.findings)

    def record(self) -> Dict[str, Any]:
        """As JSON holds it."""
        return {
            "sound": self.is_sound,
            "device": self.device.record(),
            "findings": [asdict(finding) for finding in self.findings],
        }


def diagnose(engines: Path, root: Path = Path("/")) -> Diagnosis:
    """Looks at the machine below `root`, at what is installed, and at the engine store."""
    device = identify(root)
    findings = [
        Finding("python", OK, f"{platform.python_version()} on {platform.machine()}"),
        Finding("device", OK, f"{device.kind}: {device.board if device.kind == 'jetson' else device.cpu}"),
        _backend(device),
        *(_package(name, module, why) for name, module, why in _OPTIONAL),
        _store(engines),
        Finding("power, heat", WARNING, "not measured in this version"),
    ]
    return Diagnosis(device, findings)


_OPTIONAL = (
    ("tensorrt", "tensorrt", "not used in this version"),
    ("cuda-python", "cuda", "not used in this version"),
)


def _backend(device: DeviceInfo) -> Finding:
    try:
        table = validated(BackendTable, environment_layer(os.environ, ("backend",)).get("backend", {}), "[backend]")
        backend = resolve_backend(table, device, onnxruntime_api.version())
    except EdgeRuntimeError as error:
        return Finding("backend", FAILED, str(error))
    return Finding("backend", OK, f"{backend.name} {backend.version} on {backend.device}")


def _package(name: str, module: str, why: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(name, OK, "not installed")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = "version unknown"
    return Finding(name, OK, f"installed ({version}), {why}")


def _store(engines: Path) -> Finding:
    store = PlanStore(engines)
    problems = []
    served = []
    for name in store.models():
        try:
            stored = store.open(name)
            stored.read_plan()
            served.append(f"{name} version {stored.manifest.version}")
        except EdgeRuntimeError as error:
            problems.append(str(error))
    if problems:
        return Finding("engine store", FAILED, "; ".join(problems))
    folder = engines if engines.is_dir() else engines.absolute().parent
    if not os.access(folder, os.W_OK):
        return Finding("engine store", WARNING, f"{folder} can't be written, so nothing can be built into it")
    return Finding("engine store", OK, f"{engines}: {', '.join(served) or 'no plan yet'}")
