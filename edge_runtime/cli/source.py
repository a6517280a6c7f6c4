"""The recipe that a verb's source and flags stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Optional

from edge_runtime.builder.recipe import Recipe, load_recipe, make_recipe
from edge_runtime.errors import UsageError


def recipe_from(source: Path, tables: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe in a .toml file, or the one that does with an .onnx file, with the flags' `tables` on top.

    Raises:
        UsageError: `source` is neither.
        ConfigError: the recipe or a flag is wrong.
    """
    flags = {table: values for table, values in tables.items() if values}
    if source.suffix.lower() == ".toml":
        return load_recipe(source, flags)
    if source.suffix.lower() != ".onnx":
        raise UsageError(f"{source}: expected a recipe (.toml) or an ONNX model (.onnx)")
    return make_recipe({"model": {"path": source.name}}, source.stem, Path(absolute(source) or "").parent, flags)


def absolute(path: Optional[Path]) -> Optional[str]:
    """A path that still holds when it is read from another folder."""
    return None if path is None else os.path.abspath(path)  # noqa: PTH100  (resolving fails on a loop of links)


def data_path(path: Optional[Path]) -> Optional[str]:
    """`absolute`, but module:function is left as it is."""
    return absolute(path) if path is None or path.suffix == ".npz" else str(path)
