"""The recipe in a pack: that of the host, for the members of the pack and nothing else."""

from __future__ import annotations

from typing import Any, Collection, Dict, Sequence

from edge_runtime.builder.recipe import IMPORTED, Recipe
from edge_runtime.errors import ConfigError, PlanCorruptError
from edge_runtime.plan.pack import HELD_OUT, MODEL, TABLES
from edge_runtime.provisioning.toml_text import table_lines


def check_packable(recipe: Recipe, has_held_out: bool = True) -> None:
    """Lets a recipe pass all of which can be taken to another machine.

    Raises:
        ConfigError: something of it can't.
    """
    tables = recipe.tables
    is_judged = has_held_out and (tables.held_out.data is not None or tables.calibration.data is not None)
    if is_judged and ":" in (tables.metric.name or ""):
        raise ConfigError(
            f"model {recipe.name!r}: [metric] name = {tables.metric.name!r} is a function of this machine, and a pack "
            "holds no code; pack with --metric accuracy or cosine and targets in the held-out data, or --no-held-out"
        )
    if tables.backend.plugins:
        raise ConfigError(
            f"model {recipe.name!r}: [backend] plugins {tables.backend.plugins[0]!r} is a library of this machine, and "
            "a pack holds no code; build it on the device by a recipe there"
        )
    unknown = [name for name in tables.calibration.imported if name not in TABLES]
    if tables.calibration.algorithm == "tensorrt" or unknown:
        raise ConfigError(
            f"model {recipe.name!r}: tables of TensorRT's own calibrator are made on the device; "
            "pack with --algorithm auto"
        )


def packed_recipe_text(recipe: Recipe, tables: Collection[str], kept_float: Sequence[str], has_held_out: bool) -> str:
    """The recipe as it lies in the pack: `tables` are the algorithms whose tables are in it."""
    settings = recipe.tables.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    model = settings.pop("model")
    batch = {key: model[key] for key in ("max_batch", "split") if key in model}
    content: Dict[str, Any] = {"model": {"name": recipe.name, "path": MODEL, **batch}}
    content.update({f"input.{name}": table for name, table in settings.pop("input", {}).items()})
    calibration = settings.pop("calibration", {})
    settings.pop("held_out", None)
    if tables:
        kept = {key: calibration[key] for key in ("max_clipped", "percentile") if key in calibration}
        files = {name: file for name, file in TABLES.items() if name in tables}
        imported = files.get(IMPORTED)
        content["calibration"] = {**kept, **({"tables": files} if imported is None else {"table": imported})}
    if has_held_out:
        content["held_out"] = {"data": HELD_OUT}
    else:
        settings.get("metric", {}).pop("name", None)
        settings.get("metric", {}).pop("better", None)
    if kept_float:
        settings["precision"] = {**settings.get("precision", {}), "keep_float": list(kept_float)}
    content.update({name: table for name, table in settings.items() if table})
    lines = ["# Of a pack: its digest is signed, so it isn't changed but by packing again."]
    for name, table in content.items():
        lines += ["", *table_lines(name, table)]
    return "\n".join(lines) + "\n"


def check_self_contained(recipe: Recipe, members: Collection[str], source: str) -> None:
    """Lets a pack's recipe pass that names the members and no other file, and no code.

    Raises:
        PlanCorruptError: it names something else.
    """
    tables = recipe.tables
    named = [("[held_out] data", tables.held_out.data), ("[calibration] data", tables.calibration.data)]
    named += [("[calibration] tables", path) for path in tables.calibration.imported.values()]
    named += [("[backend] plugins", path) for path in tables.backend.plugins]
    named += [("[model] package", tables.model.package), ("[model] path", tables.model.path)]
    if ":" in (tables.metric.name or ""):
        named.append(("[metric] name", tables.metric.name))
    for key, name in named:
        if name is not None and (name not in members or key in ("[backend] plugins", "[model] package")):
            raise PlanCorruptError(
                f"{source}: its recipe: {key} {name[:128]!r} isn't of the pack; get another one of whom it came from"
            )
