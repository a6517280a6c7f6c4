"""Plans of a store, for a server that loads them while it serves others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping

from edge_runtime.cli.startup import load_engine, raise_floor, trim_memory
from edge_runtime.errors import PlanError
from edge_runtime.plan.golden import read_golden
from edge_runtime.plan.serving import serving_table
from edge_runtime.plan.store import PlanStore
from edge_runtime.server.accelerators import Prepared, prepared
from edge_runtime.server.settings import ServerSettings


class StorePlans:
    """Loads, warms and times the plans of a store as a start does; any thread may call it.

    `wishes` are the settings of models that the command line gave.
    """

    def __init__(self, engines: Path, settings: ServerSettings, wishes: Mapping[str, Any]) -> None:
        self._engines = engines
        self._store = PlanStore(engines)
        self._settings = settings
        self._wishes = wishes

    def versions(self) -> Dict[str, str]:
        """The models of the store, each with the version that it serves ("": none can be)."""
        return {name: self._version(name) for name in self._store.models()}

    def _version(self, name: str) -> str:
        try:
            return str(self._store.served(name))
        except PlanError:
            return ""

    def load(self, name: str) -> Prepared:
        """A warmed engine of the version that is served, once some of its runs were timed.

        Raises:
            EdgeRuntimeError: there is none, or it can't be loaded.
        """
        stored = self._store.open(name)
        serving = serving_table(self._engines, name, self._wishes)
        engine = load_engine(stored, self._settings)
        try:
            made = prepared(engine, serving, read_golden(stored))
        except BaseException:
            engine.close()
            raise
        raise_floor(stored)
        trim_memory()
        return made

    def tidy(self) -> None:
        """Gives back to the system what a closed engine has left, where the C library can."""
        trim_memory()
