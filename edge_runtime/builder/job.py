"""What is known of a build before the model is opened, and the model once it is."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping

from edge_runtime.builder.backend import Backend, int8_problem, local_backend
from edge_runtime.builder.data import data_of
from edge_runtime.builder.key import build_key
from edge_runtime.builder.measure import metric_key
from edge_runtime.builder.progress import Progress, RecordedProgress
from edge_runtime.builder.recipe import IMPORTED, Recipe, load_recipe, make_recipe, name_of
from edge_runtime.builder.source import model_path
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.device.power_mode import current_power_mode
from edge_runtime.errors import ConfigError, PlanCorruptError
from edge_runtime.graph.model import source_digest
from edge_runtime.plan.board import Gpu, gpu_of
from edge_runtime.plan.manifest import PluginRecord
from edge_runtime.plan.plan_key import PlanKey
from edge_runtime.plan.plugins import plugin_record
from edge_runtime.plan.store import Signer, default_root
from edge_runtime.plan.trust import TrustPolicy, trust_policy
from edge_runtime.plan.unpacked import is_unpacked, unpacked_pack


@dataclass(frozen=True)
class BuildOptions:
    """Where plans and calibration tables are kept, and what is done beyond building.

    `verify_data` runs the data functions before a plan is re-used; `explain` measures which layers INT8 hurts; `again`
    builds anew what is there already; `seal` is the key by which the plan is encrypted, `sign` what makes
    its signature; None: it isn't. `trust` says who may have signed the pack of a recipe that lies in one.
    """

    engines: Path = field(default_factory=default_root)
    calib_cache: Path = Path("calib_cache")
    verify_data: bool = False
    explain: bool = False
    again: bool = False
    seal: PlanKey | None = None
    sign: Signer | None = None
    trust: TrustPolicy = field(default_factory=trust_policy)


@dataclass(frozen=True)
class Site:
    """What decides which kernels TensorRT chooses: the GPU, and the power mode (None: not known, or there is none)."""

    gpu: Gpu
    power_mode: str | None


@dataclass(frozen=True)
class Job:
    """All that is known before the model is opened; `policy` is the recipe's, or what it falls back to.

    `site` is None for plans of the CPU; `source_nbytes` is the size of the ONNX with its external data; `pack_sha256`
    is the digest of the pack that the recipe lies in, None if it lies in none.
    """

    recipe: Recipe
    options: BuildOptions
    progress: RecordedProgress
    backend: Backend
    device: DeviceInfo
    site: Site | None
    onnx_path: Path
    source_nbytes: int
    key: str
    policy: str
    int8_problem: str
    pack_sha256: str | None = None


def job_of(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any], options: BuildOptions, progress: Progress
) -> Job:
    """Reads a recipe and resolves what it leaves open; finds the model, and digests model and data.

    Raises:
        ConfigError: the recipe is wrong, or asks for INT8 where there is none.
        BackendUnavailableError: its backend can't build here.
        PlanError: it lies in a pack that isn't what was signed, or that nobody signed who is trusted here.
    """
    if isinstance(recipe, Mapping):
        recipe = make_recipe(recipe, name_of(recipe), Path.cwd())
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(Path(recipe))
    recorded = RecordedProgress(progress)
    pack_sha256 = unpacked_pack(recipe.folder, options.trust).sha256 if is_unpacked(recipe.folder) else None
    device = identify()
    backend = local_backend(recipe.tables.backend, device)
    if backend.reason:
        recorded.note(f"{backend.reason}: {backend.name} is used, as [backend] fallback says")
    problem = int8_problem(backend.name, device)
    policy = recipe.tables.precision.policy
    if policy == "int8" and problem:
        if recipe.tables.precision.fallback is None:
            raise ConfigError(f'{problem}; build fp16, or set [precision] fallback = "fp16"')
        policy = recipe.tables.precision.fallback
        recorded.note(f"{problem}: {policy} is built instead, as [precision] fallback says")
    site = _site(recipe, backend, device)
    path = model_path(recipe)
    model_digest, files = source_digest(path)
    source_nbytes = sum((path.parent / name).stat().st_size for name, _ in files)
    digests = {
        "model": model_digest,
        "data": data_of(recipe).keys(),
        "metric": metric_key(recipe),
        "table": _table_digests(recipe),
        "plugins": [record.sha256 for record in plugin_records(recipe)],
    }
    key = build_key(recipe.tables, digests, backend, (device.record(), site))
    return Job(recipe, options, recorded, backend, device, site, path, source_nbytes, key, policy, problem, pack_sha256)


def _site(recipe: Recipe, backend: Backend, device: DeviceInfo) -> Site | None:
    """The GPU that a TensorRT plan is built on, and how it is clocked; None for the CPU."""
    if not backend.is_tensorrt:
        return None
    mode = current_power_mode()
    return Site(gpu_of(device, recipe.tables.backend.gpu), None if mode is None else mode.name)


def plugin_records(recipe: Recipe) -> List[PluginRecord]:
    """The recipe's plugin libraries with what they hold.

    Raises:
        ConfigError: one isn't there.
    """
    found = []
    for name in recipe.tables.backend.plugins:
        path = recipe.path(name)
        try:
            found.append(plugin_record(path))
        except PlanCorruptError as error:
            raise ConfigError(f"[backend] plugins {name!r}: {str(error).partition(';')[0]}; correct it") from None
    return found


def _table_digests(recipe: Recipe) -> str | Dict[str, str] | None:
    """The digest of each calibration cache that the recipe imports, if it does, whatever TensorRT it is from."""
    found = {}
    for algorithm, name in recipe.tables.calibration.imported.items():
        path = recipe.path(name)
        if not path.is_file():
            raise ConfigError(f"[calibration] table {path}: can't be read (no such file)")
        found[algorithm] = hashlib.sha256(CalibrationTable.read(path).to_cache_text().encode()).hexdigest()
    return found.get(IMPORTED) or found or None
