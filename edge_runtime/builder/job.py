"""What is known of a build before the model is opened, and the model once it is."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Mapping

from edge_runtime.builder.backend import Backend, int8_problem, local_backend
from edge_runtime.builder.data import data_of
from edge_runtime.builder.key import build_key
from edge_runtime.builder.measure import metric_key
from edge_runtime.builder.progress import Progress, RecordedProgress
from edge_runtime.builder.recipe import Recipe, load_recipe, make_recipe, name_of
from edge_runtime.builder.source import model_path
from edge_runtime.calibration.table import CalibrationTable
from edge_runtime.device.identity import DeviceInfo, identify
from edge_runtime.errors import ConfigError
from edge_runtime.graph.model import source_digest
from edge_runtime.plan.manifest import PluginRecord
from edge_runtime.plan.store import default_root


@dataclass(frozen=True)
class BuildOptions:
    """Where plans and calibration tables are kept, and what is done beyond building.

    `verify_data` runs the data functions before a plan is re-used; `explain` measures which layers INT8 hurts.
    """

    engines: Path = field(default_factory=default_root)
    calib_cache: Path = Path("calib_cache")
    verify_data: bool = False
    explain: bool = False


@dataclass(frozen=True)
class Job:
    """All that is known before the model is opened; `policy` is the recipe's, or what it falls back to."""

    recipe: Recipe
    options: BuildOptions
    progress: RecordedProgress
    backend: Backend
    device: DeviceInfo
    onnx_path: Path
    key: str
    policy: str
    int8_problem: str


def job_of(
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any], options: BuildOptions, progress: Progress
) -> Job:
    """Reads a recipe and resolves what it leaves open; finds the model, and digests model and data.

    Raises:
        ConfigError: the recipe is wrong, or asks for INT8 where there is none.
        BackendUnavailableError: its backend can't build here.
    """
    if isinstance(recipe, Mapping):
        recipe = make_recipe(recipe, name_of(recipe), Path.cwd())
    elif not isinstance(recipe, Recipe):
        recipe = load_recipe(Path(recipe))
    recorded = RecordedProgress(progress)
    device = identify()
    problem = int8_problem(recipe.tables.backend, device)
    policy = recipe.tables.precision.policy
    if policy == "int8" and problem:
        if recipe.tables.precision.fallback is None:
            raise ConfigError(f'{problem}; build fp16, or set [precision] fallback = "fp16"')
        policy = recipe.tables.precision.fallback
        recorded.note(f"{problem}: {policy} is built instead, as [precision] fallback says")
    backend = local_backend(recipe.tables.backend, device)
    path = model_path(recipe)
    model_digest, _ = source_digest(path)
    digests = {
        "model": model_digest,
        "data": data_of(recipe).keys(),
        "metric": metric_key(recipe),
        "table": _table_sha256(recipe),
        "plugins": [record.sha256 for record in plugin_records(recipe)],
    }
    key = build_key(recipe.tables, digests, backend, device)
    return Job(recipe, options, recorded, backend, device, path, key, policy, problem)


def plugin_records(recipe: Recipe) -> List[PluginRecord]:
    """The recipe's plugin libraries with what they hold.

    Raises:
        ConfigError: one isn't there.
    """
    found = []
    for name in recipe.tables.backend.plugins:
        path = recipe.path(name)
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"[backend] plugins {name!r}: {path}: can't be read ({error.strerror})") from None
        found.append(PluginRecord(path=str(path.absolute()), sha256=digest))
    return found


def _table_sha256(recipe: Recipe) -> str | None:
    """The digest of the calibration cache that the recipe imports, if it does, whatever TensorRT it is from."""
    table = recipe.tables.calibration.table
    if table is None:
        return None
    path = recipe.path(table)
    if not path.is_file():
        raise ConfigError(f"[calibration] table {path}: can't be read (no such file)")
    return hashlib.sha256(CalibrationTable.read(path).to_cache_text().encode()).hexdigest()
