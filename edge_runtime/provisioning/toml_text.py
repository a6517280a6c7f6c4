"""Tables as TOML text."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator, List, Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def table_lines(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """A table with its header; of `input.NAME` only the first point parts names."""
    first, dot, rest = name.partition(".")
    yield f"[{first}{dot}{toml_key(rest) if dot else ''}]"
    for key, value in table.items():
        yield f"{toml_key(key)} = {toml_value(value)}"


def toml_key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if _BARE.fullmatch(name) else _text(name)


def toml_value(value: Any) -> str:
    """A value; a mapping becomes a table in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        entries = ", ".join(f"{toml_key(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {entries} }}" if entries else "{}"
    if isinstance(value, (list, tuple)):
        parts: List[str] = [toml_value(one) for one in value]
        return f"[{', '.join(parts)}]"
    return str(value)


def _text(text: str) -> str:
    """A basic string, which is JSON's but for the one control character that JSON lets stand."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
