"""What a server is told: by flags, variables and its file, in that order; and read anew while it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Mapping, MutableMapping, Sequence

from edge_runtime.config import Layer, environment_layer, merged, validated
from edge_runtime.plan.serving import ServingTable, serving_table
from edge_runtime.plan.trust import trust_settings
from edge_runtime.server.addresses import check_access
from edge_runtime.server.config_file import config_tables
from edge_runtime.server.passed_sockets import NO_SOCKETS, PassedSockets
from edge_runtime.server.reloading import Told
from edge_runtime.server.settings import ServerSettings


class ServerConfig:
    """Reads what a server is told; any thread may ask it.

    Args:
        engines: the folder of the store, where the recipes are.
        file: the TOML file; None: there is none.
        flags: of `[server]`.
        wishes: flags of `[serving]`.
        environ: variables, as they are now.
        sockets: what the server listens with already.

    Attributes:
        first: what the server was started with.

    Raises:
        ConfigError: something of it is wrong; the message names the file, the variable or the flag.
    """

    def __init__(
        self,
        engines: Path,
        file: Path | None = None,
        flags: Layer | None = None,
        wishes: Layer | None = None,
        environ: Mapping[str, str] = os.environ,
        sockets: PassedSockets = NO_SOCKETS,
    ) -> None:
        self._engines = engines
        self._file = file
        self._flags = flags or {}
        self._wishes = wishes or {}
        self._environ = dict(environ)
        self.sockets = sockets
        self._tables: Mapping[str, Layer] = {}
        self.first = self.read(())

    @property
    def is_reloadable(self) -> bool:
        """Whether there is something that a server looks at anew when it is told to."""
        return self._file is not None or self.first.settings.is_reloadable

    def read(self, models: Sequence[str]) -> Told:
        """All that the server is told now, with how each of the models wants to be served.

        Raises:
            ConfigError: something is wrong; what was read before holds on.
        """
        tables = config_tables(self._file) if self._file is not None else {}
        variables = environment_layer(self._environ, ("server",)).get("server", {})
        layers = merged(merged(tables.get("server", {}), variables), self._flags)
        settings = self.sockets.settings(validated(ServerSettings, layers, "[server]"))
        check_access(settings)
        trust = trust_settings(self._environ, tables.get("trust"))
        serving = {name: self._serving(name, tables) for name in models}
        self._tables = tables
        return Told(settings, trust.model_dump(), serving)

    def serving(self, model: str) -> ServingTable:
        """How a model wants to be served, by the file as it was read last; raises ConfigError."""
        return self._serving(model, self._tables)

    def _serving(self, model: str, tables: Mapping[str, Layer]) -> ServingTable:
        return serving_table(self._engines, model, self._wishes, self._environ, tables.get("serving"))

    def export_trust(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Lets `[trust]` of the file hold wherever this process, and what it starts, asks the environment."""
        for key, value in self._tables.get("trust", {}).items():
            environ.setdefault(f"EDGE_RUNTIME_TRUST__{key.upper()}", _toml(value))


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # which TOML reads the same: texts and booleans are all there is
