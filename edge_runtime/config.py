"""The one rule for settings: flag > `EDGE_RUNTIME_SECTION__KEY` > recipe > default, and nothing unknown.

Sections are the tables of a recipe plus those of the verbs that have settings of their own. A variable's
name is upper case; its value is read as TOML where that parses (numbers, lists, booleans), else as text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Type, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_runtime.errors import ConfigError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "EDGE_RUNTIME_"
RECIPE_SECTIONS = ("model", "input", "calibration", "held_out", "metric", "precision", "gate", "backend", "serving")
SECTIONS = (*RECIPE_SECTIONS, "server", "bench", "profile", "regression", "sweep", "client", "trust")

Layer = Mapping[str, Any]


class Settings(BaseModel):
    """Strict, frozen base of every settings object: an unknown key is an error, and so is a number that is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=BaseModel)


def validated(kind: Type[S], values: Layer, source: str) -> S:
    """`values` as a settings object of `kind`.

    Raises:
        ConfigError: every wrong key and value of `source`, one a line, with the nearest valid name.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = [_problem(kind, detail) for detail in error.errors(include_url=False)]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from None


def _problem(kind: Type[BaseModel], detail: Mapping[str, Any]) -> str:
    where = ".".join(map(str, detail["loc"])) or "(whole)"
    if detail["type"] == "extra_forbidden":
        *parents, name = detail["loc"]
        return f"unknown key {where!r}: {nearest(str(name), _keys_at(kind, parents))}"
    cause = detail.get("ctx", {}).get("error")
    text = str(cause) if cause is not None else detail["msg"]
    got = "" if detail["type"] == "missing" else f" (got {_shortened(detail['input'])})"
    return f"{where}: {text}{got}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(kind: Type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The valid keys of the settings object found by following `path` down from `kind`."""
    current: Type[BaseModel] = kind
    for step in path:
        field = current.model_fields.get(str(step))
        if field is None:
            continue  # a name inside a mapping, such as NAME in [input.NAME]
        nested = _nested_settings(field.annotation)
        if nested is None:
            return []
        current = nested
    return [field.alias or name for name, field in current.model_fields.items()]


def _nested_settings(annotation: Any) -> Type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _nested_settings(argument)
        if found is not None:
            return found
    return None


def read_toml(path: Path) -> Dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file can't be read, or isn't TOML (with line and column).
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: isn't a file; give a TOML file")
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from error
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: it is nested too deeply") from None
    except ValueError as error:  # of TOML, of UTF-8, or a number with more digits than Python reads
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def environment_layer(environ: Mapping[str, str], sections: Sequence[str]) -> Dict[str, Any]:
    """What `EDGE_RUNTIME_SECTION__KEY` variables say about `sections`; those of other verbs are left alone.

    Raises:
        ConfigError: a variable of this form names no section at all.
    """
    layer: Dict[str, Any] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or "__" not in variable:
            continue
        section, *keys = variable[len(PREFIX) :].lower().split("__")
        if section not in SECTIONS:
            raise ConfigError(f"environment variable {variable}: unknown section: {nearest(section, SECTIONS)}")
        if section not in sections:
            continue
        if not all(keys):
            raise ConfigError(f"environment variable {variable}: expected {PREFIX}SECTION__KEY")
        table = layer.setdefault(section, {})
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"environment variable {variable}: {key!r} is set to a plain value by another one")
        table[keys[-1]] = _toml_value(text)
    return layer


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def merged(lower: Layer, higher: Layer, ignores_case: bool = False) -> Dict[str, Any]:
    """`lower` with every key that `higher` sets, table by table.

    With `ignores_case`, a key finds one that differs in case only, so that a variable reaches an input called `X`.
    """
    result = dict(lower)
    for key, value in higher.items():
        target = key
        if ignores_case and key not in result:
            target = next((name for name in result if name.lower() == key.lower()), key)
        if isinstance(value, Mapping) and isinstance(result.get(target), Mapping):
            result[target] = merged(result[target], value, ignores_case)
        else:
            result[target] = value
    return result
