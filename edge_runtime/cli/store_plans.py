"""Plans of a store, for a server that loads them at its start and while it serves others."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Callable, Dict

from edge_runtime.cli.startup import engine_options, load_engine, raise_floor, trim_memory
from edge_runtime.cli.store_watch import StoreWatch
from edge_runtime.engine.engine import Engine
from edge_runtime.errors import DeviceLostError, EdgeRuntimeError, PlanError, PlanNotFoundError, PlanTargetError
from edge_runtime.plan.golden import read_golden
from edge_runtime.plan.serving import ServingTable
from edge_runtime.plan.store import PlanStore, StoredPlan
from edge_runtime.server.accelerators import CPU, Prepared, prepared
from edge_runtime.server.loads import Stamp
from edge_runtime.server.memory.admission import Admission
from edge_runtime.server.settings import ServerSettings

logger = logging.getLogger(__name__)


class StorePlans:
    """Loads, warms and times the plans of a store, where there is memory for them; any thread may call it.

    `serving` says how a model wants to be served, and raises ConfigError.
    """

    def __init__(
        self, engines: Path, settings: ServerSettings, serving: Callable[[str], ServingTable], admission: Admission
    ) -> None:
        self._store = PlanStore(engines)
        self._watch = StoreWatch(engines)
        self._settings = settings
        self.serving = serving
        self._admission = admission

    def versions(self) -> Dict[str, str]:
        """The models of the store, each with the version that it serves ("": none can be)."""
        return {name: self.served(name) for name in self._store.models()}

    def served(self, name: str) -> str:
        """The version of a model that the store serves ("": none can be)."""
        try:
            return str(self._store.served(name))
        except PlanError:
            return ""

    def stamps(self) -> Dict[str, Stamp]:
        """The models of the store, each with what changes when another version is served, or put there anew."""
        return self._watch.stamps()

    def is_to_measure(self, stored: StoredPlan) -> bool:
        """Whether a plan should be loaded alone, so that what it takes of memory is known from then on."""
        return self._admission.is_to_measure(stored, engine_options(stored, self._settings).slots)

    def engine(self, stored: StoredPlan) -> Engine:
        """A warmed engine; raises EdgeRuntimeError."""
        options = engine_options(stored, self._settings)
        with self._admission.admitted(stored, options.slots):
            return load_engine(stored, self._settings)

    def give_up(self, name: str) -> None:
        """Says that an engine that was loaded at the start is closed again."""
        self._admission.ledger.forget(name)

    def load(self, name: str, version: str = "") -> Prepared:
        """A warmed engine of a version ("": the one that is served), once some of its runs were timed.

        Raises:
            EdgeRuntimeError: there is none, or it can't be loaded.
        """
        return self._load(self._store.open(name, int(version) if version else None))

    def load_stand_in(self, name: str, version: str) -> Prepared:
        """The newest version that loads of those before that one ("": of all); for a plan of a GPU, none of the CPU.

        Raises:
            PlanNotFoundError: there is none.
        """
        is_on_gpu = False
        for number in reversed(self._store.versions(name)):
            if version and number > int(version):
                continue
            try:
                stored = self._store.open(name, number)
                is_on_cpu = stored.manifest.backend.device == CPU
                if is_on_cpu and is_on_gpu:
                    raise PlanTargetError("it is for the CPU, and the model runs on a GPU")
                is_on_gpu = is_on_gpu or not is_on_cpu
                if str(number) != version:
                    return self._load(stored)
            except DeviceLostError:
                raise
            except EdgeRuntimeError as error:
                logger.warning("model %s: version %d can't stand in: %s", name, number, error)
        raise PlanNotFoundError(f"model {name!r}: no older version can stand in; build it: edge-runtime build")

    def _load(self, stored: StoredPlan) -> Prepared:
        serving, options = self.serving(stored.manifest.name), engine_options(stored, self._settings)
        with self._admission.admitted(stored, options.slots):
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
