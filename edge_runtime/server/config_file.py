"""The file that `serve --config` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Type

from pydantic import BaseModel

from edge_runtime.config import Layer, read_toml, validated
from edge_runtime.errors import ConfigError, nearest
from edge_runtime.plan.serving import ServingTable
from edge_runtime.plan.trust import TrustSettings
from edge_runtime.server.settings import ServerSettings

SECTIONS: Mapping[str, Type[BaseModel]] = {"server": ServerSettings, "serving": ServingTable, "trust": TrustSettings}
"""The tables of the file; `[serving]` holds for models whose recipes don't say otherwise."""


def config_tables(file: Path) -> Dict[str, Layer]:
    """The tables of a file, as they are there.

    Raises:
        ConfigError: it can't be read, or something in it is wrong or unknown.
    """
    found: Dict[str, Any] = read_toml(file)
    for section, table in found.items():
        if section not in SECTIONS:
            raise ConfigError(f"{file}: unknown section [{section}]: {nearest(section, list(SECTIONS))}")
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {section}: expected a table, [{section}]")
        validated(SECTIONS[section], table, f"{file}: [{section}]")
    return found
