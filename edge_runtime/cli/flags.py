"""Command-line flags, made from the settings that they set, so that each is described once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Type

import typer
from pydantic import BaseModel

from edge_runtime.errors import UsageError

Layer = Mapping[str, Any]


def flag(
    settings: Type[BaseModel],
    field: str,
    name: str,
    metavar: str | None = None,
    minimum: int | None = None,
    callback: Callable[[Optional[str]], Optional[str]] | None = None,
) -> Any:
    """An option that sets `field` of a settings object; None means that it wasn't given."""
    info = settings.model_fields[field]
    default = None if info.default is None or info.is_required() else _text(info.default)
    text = info.description or ""
    described = text if default is None else f"{text} [default: {default}]"
    return typer.Option(None, name, help=described, metavar=metavar, min=minimum, callback=callback)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def one_of(choices: Sequence[str], or_function: bool = False) -> Callable[[Optional[str]], Optional[str]]:
    """A callback that refuses any other value (but module:function, where that is valid) as a usage error."""

    def check(value: Optional[str]) -> Optional[str]:
        if value is not None and value not in choices and not (or_function and ":" in value):
            others = " or module:function" if or_function else ""
            raise typer.BadParameter(f"expected one of {', '.join(choices)}{others}, got {value!r}")
        return value

    return check


def engines_option() -> Any:
    """`--engines`: the folder of the engine store."""
    return typer.Option(Path("engines"), "--engines", envvar="EDGE_RUNTIME_ENGINES", help="Folder of the engine store.")


def json_option() -> Any:
    """`--json`: one JSON document on stdout, everything else on stderr."""
    return typer.Option(False, "--json", help="Print JSON on stdout; progress and logs go to stderr.")


def given(**values: Any) -> dict[str, Any]:
    """The flags that were given: those that aren't None."""
    return {name: value for name, value in values.items() if value is not None}


def shape_tables(options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`[input.NAME]` tables from `--shape NAME=MIN,OPT,MAX` or `--shape NAME=SHAPE`; the name ends at the last `=`.

    Raises:
        UsageError: a value that isn't of that form, or an input named twice.
    """
    tables: dict[str, dict[str, Any]] = {}
    for option in options:
        name, equals, text = option.rpartition("=")
        shapes = [_shape(part) for part in text.split(",")]
        if not equals or not name or len(shapes) not in (1, 3) or None in shapes:
            raise UsageError(
                f"--shape {option!r}: expected NAME=SHAPE or NAME=MIN,OPT,MAX with shapes such as 1x3x48x192"
            )
        if name in tables:
            raise UsageError(f"--shape names input {name!r} twice")
        tables[name] = {"shape": shapes[0]} if len(shapes) == 1 else dict(zip(("min", "opt", "max"), shapes))
    return tables


def _shape(text: str) -> list[int] | None:
    sizes = text.lower().split("x")
    if not all(size.isascii() and size.isdigit() and 0 < len(size) <= 9 for size in sizes):
        return None
    return [int(size) for size in sizes]
