"""The tables of a recipe laid over each other."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from edge_runtime.config import Layer, merged

_SHAPES = frozenset({"shape", "min", "opt", "max", "value"})
_ALONE = frozenset({"shape", "value"})


def overridden(lower: Layer, higher: Layer, ignores_case: bool = False) -> Dict[str, Any]:
    """`merged`, but other data doesn't inherit the old data's arguments, nor a shape or value the old one."""
    base = dict(lower)
    for section in ("calibration", "held_out"):
        if "data" in table_of(higher, section) and table_of(base, section):
            base[section] = {
                k: v for k, v in base[section].items() if k not in ("arguments", "data_version", "stateful")
            }
    inputs = dict(table_of(base, "input"))
    for name, table in table_of(higher, "input").items():
        known = next((n for n in inputs if ignores_case and n.lower() == name), name)
        old = table_of(inputs, known)
        if isinstance(table, Mapping) and not _ALONE.isdisjoint({*table, *old}):
            dropped = _SHAPES if "value" not in table else {*_SHAPES, "axes"}
            inputs[known] = {k: v for k, v in old.items() if k not in dropped}
    if inputs:
        base["input"] = inputs
    return merged(base, higher, ignores_case)


def table_of(layer: Layer, key: str) -> Mapping[str, Any]:
    """A table of a layer; empty if it isn't there, or isn't a table, which validation tells."""
    value = layer.get(key) if isinstance(layer, Mapping) else None
    return value if isinstance(value, Mapping) else {}
