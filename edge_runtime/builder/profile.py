"""The optimization profile of a build: a shape range for every input."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from edge_runtime.builder.recipe import InputTable, RecipeTables, check_names
from edge_runtime.errors import ConfigError
from edge_runtime.tensors import DYNAMIC, ShapeRange, TensorSpec


def profile_of(inputs: Sequence[TensorSpec], tables: RecipeTables) -> dict[str, ShapeRange]:
    """Ranges from `[input.NAME]`, from fixed shapes, or 1 to `[model] max_batch` where only axis 0 is dynamic.

    Raises:
        ConfigError: a table names no input, or an input's dynamic axes have no sizes.
    """
    shaped = [name for name, table in tables.input.items() if table.value is None]
    check_names(shaped, [spec.name for spec in inputs], "[input] the model has no input")
    return {spec.name: _range(spec, tables.input, tables.model.max_batch) for spec in inputs}


def values_of(tables: RecipeTables) -> dict[str, Any]:
    """The inputs to which `[input.NAME] value` gives a value: a number, or nested lists of them."""
    return {name: table.value for name, table in tables.input.items() if table.value is not None}


def axes_of(tables: RecipeTables) -> dict[str, list[str]]:
    """The names of axes that `[input.NAME]` gives, by input."""
    return {name: table.axes for name, table in tables.input.items() if table.axes is not None}


def _range(spec: TensorSpec, tables: Mapping[str, InputTable], max_batch: int) -> ShapeRange:
    table = tables.get(spec.name)
    if table is not None:
        return table_range(table)
    if DYNAMIC in spec.shape[1:]:
        example = "x".join(str(size) if size != DYNAMIC else "N" for size in spec.shape)
        raise ConfigError(
            f"input {spec.name!r} of shape {list(spec.shape)} has dynamic axes beyond the batch; "
            f"give its sizes: --shape {spec.name}={example} or [input.{spec.name}]"
        )
    if not spec.is_dynamic:
        return ShapeRange.fixed(spec.shape)
    rest = spec.shape[1:]
    return ShapeRange((1, *rest), (1, *rest), (max_batch, *rest))


def table_range(table: InputTable) -> ShapeRange:
    """The range that one `[input.NAME]` gives."""
    if table.shape is not None:
        return ShapeRange.fixed(table.shape)
    assert table.minimum is not None
    assert table.optimum is not None
    assert table.maximum is not None
    return ShapeRange(table.minimum, table.optimum, table.maximum)
