"""A recipe as TOML text, with comments about what a configuration's fields became."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator, List, Mapping, Sequence

from edge_runtime.provisioning.triton.fates import LOST, FieldFate

_BARE = re.compile(r"[A-Za-z0-9_-]+")
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
        lines += ["", f"[{_header(name)}]", *_entries(tables[name])]
    return "\n".join(lines) + "\n"


def comment(text: str) -> str:
    """A line of comment; what can't be printed is escaped."""
    return "# " + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _entries(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_value(value)}"


def _header(name: str) -> str:
    table, dot, rest = name.partition(".")
    return table + (dot and f".{rest if _BARE.fullmatch(rest) else _text(rest)}")


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        parts: List[str] = [_value(one) for one in value]
        return f"[{', '.join(parts)}]"
    return str(value)


def _text(text: str) -> str:
    """A basic string, which is JSON's but for the one control character that JSON lets stand."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
