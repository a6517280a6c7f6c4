"""How a model wants to be served: the table `[serving]` of its recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Collection, List, Literal, Mapping, Optional

from pydantic import Field

from edge_runtime.config import Layer, Settings, environment_layer, merged, read_toml, validated
from edge_runtime.errors import ConfigError, LadderError
from edge_runtime.plan.ladder import LadderTable
from edge_runtime.plan.recipe_file import recipe_file

SECTION = "serving"


class ServingTable(Settings):
    """What holds for requests to a model that don't say otherwise; a plan doesn't depend on it."""

    deadline_ms: Optional[float] = Field(
        None, gt=0, le=86_400_000, description="Deadline of requests that bring no shorter, from their first byte, ms."
    )
    priority: int = Field(0, ge=0, strict=True, description="Priority of requests that bring none: 1 first, 0 last.")
    batching: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether requests that wait may share a run (auto: on a GPU)."
    )
    pinned: bool = Field(False, description="Whether the model stays loaded, whatever else needs its memory.")
    ladder: LadderTable = Field(LadderTable(), description="Models that stand in while it is too hot or too much.")


def serving_table(
    root: Path,
    model: str,
    flags: Layer | None = None,
    environ: Mapping[str, str] = os.environ,
    usual: Layer | None = None,
) -> ServingTable:
    """What `<root>/<model>.toml` says, or else the recipe of its pack, with variables and then `flags` on top.

    `usual` holds for what none of them says.

    Raises:
        ConfigError: the recipe, a variable or a flag is wrong.
    """
    path = recipe_file(root, model)
    recipe = {} if path is None else read_toml(path).get(SECTION, {})
    if not isinstance(recipe, Mapping):
        raise ConfigError(f"{path}: [{SECTION}]: expected a table")
    variables = environment_layer(environ, (SECTION,)).get(SECTION, {})
    layers = merged(merged(merged(usual or {}, recipe), variables), flags or {})
    return validated(ServingTable, layers, f"model {model!r}: [{SECTION}]")


def with_rungs(
    root: Path, names: Collection[str], stored: Collection[str] | None, serving: Callable[[str], ServingTable]
) -> List[str]:
    """The models that are to be served, and behind them the rungs of their ladders and so on, each once.

    `serving` says how a model wants to be served. Where `stored` is None, rungs needn't be in the store.

    Raises:
        LadderError: a rung isn't among the `stored` models.
        ConfigError: a recipe, a variable or a flag is wrong.
    """
    found = list(dict.fromkeys(names))
    for name in found:  # which grows: a rung may have rungs of its own
        for rung in serving(name).ladder.below(name):
            if stored is not None and rung not in stored:
                raise LadderError(
                    f"model {name!r}: rung {rung!r} of its ladder isn't in {root}; "
                    f"build it (edge-runtime build {root}/{rung}.toml) or take it out of [serving.ladder] rungs"
                )
            found += [] if rung in found else [rung]
    return found
