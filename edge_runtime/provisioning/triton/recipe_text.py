"""A recipe as TOML text, with comments about what a configuration's fields became."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from edge_runtime.provisioning.toml_text import table_lines
from edge_runtime.provisioning.triton.fates import LOST, FieldFate

_ORDER = ("model", "input", "calibration", "precision", "backend", "serving")


def recipe_text(
    tables: Mapping[str, Mapping[str, Any]], source: str, fates: Sequence[FieldFate], missing: Sequence[str]
) -> str:
    """The recipe's text; keys of `tables` are names of tables (`input.NAME`), `source` says where it is from."""
    lines = [comment(f"From {source}.")]
    lines += [comment(f"Missing: {text}") for text in missing]
    lines += [
        comment(f"{'' if one.line is None else f'line {one.line}, '}{one.path}: {one.text}")
        for one in fates
        if one.outcome == LOST
    ]
    for name in sorted(tables, key=lambda name: _ORDER.index(name.partition(".")[0])):
        lines += ["", *table_lines(name, tables[name])]
    return "\n".join(lines) + "\n"


def comment(text: str) -> str:
    """A line of comment; what can't be printed is escaped."""
    return "# " + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
