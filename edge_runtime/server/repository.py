"""The models of a store: which are loaded, and how that is changed while they are served."""

from __future__ import annotations

import logging
from typing import Dict, List

from edge_runtime.errors import (
    EdgeRuntimeError,
    InsufficientMemoryError,
    InvalidRequestError,
    PlanNotFoundError,
    ServerUnavailableError,
    UnknownNameError,
)
from edge_runtime.plan.names import MODEL_NAME
from edge_runtime.server.accelerators import Accelerators
from edge_runtime.server.keeping import NOTHING_KEPT, Keeping
from edge_runtime.server.load_reasons import public_reason
from edge_runtime.server.loads import Loads
from edge_runtime.server.models import ModelTable
from edge_runtime.server.residents import Residents
from edge_runtime.wire.inference import clipped

logger = logging.getLogger(__name__)


class ModelRepository:
    """Loads, reloads and unloads models while others are served; used on the loop's thread.

    What is asked of one model is done in order, of different ones at the same time. A model that is loaded anew serves
    on until the new one is ready; requests that are under way end as usual, and its engine is closed after them.

    Attributes:
        standings: which models aren't served as the store has them.
    """

    def __init__(
        self, models: ModelTable, accelerators: Accelerators, loads: Loads, keeping: Keeping = NOTHING_KEPT
    ) -> None:
        self._models = models
        self._loads = loads
        self._residents = Residents(models, accelerators, loads, keeping)
        self._changes = self._residents.changes
        self.standings = self._residents.standings

    async def load(self, name: str) -> None:
        """Loads the version that the store serves, or loads it anew; a load that fails changes nothing.

        Raises:
            InvalidRequestError: no model can have that name, or its plan can't be loaded here.
            UnknownNameError: there is no plan of it.
            ServerUnavailableError: the server is shutting down, too much waits to be loaded, or memory is short.
        """
        _check_name(name)
        try:
            await self._changes.do(name, self._residents.load)
        except ServerUnavailableError:
            raise
        except PlanNotFoundError:
            raise UnknownNameError(f"model {name!r}: the store has no plan of it to serve") from None
        except InsufficientMemoryError as error:
            raise ServerUnavailableError(f"not loaded: {error}") from None
        except EdgeRuntimeError as error:
            raise InvalidRequestError(f"model {name!r} can't be loaded: {public_reason(error)}") from None

    async def unload(self, name: str) -> None:
        """Takes no more requests for a model, and closes its engine when those that are under way have ended.

        Raises:
            InvalidRequestError: no model can have that name.
            UnknownNameError: it isn't loaded.
            ServerUnavailableError: the server is shutting down, or too much waits to be loaded.
        """
        _check_name(name)
        await self._changes.do(name, self._residents.unload)

    async def swap(self, name: str) -> None:
        """Loads the version that the store serves, unless it is the one that is loaded, or nobody wants it loaded.

        Raises:
            EdgeRuntimeError: it couldn't be loaded; what was there before serves on.
        """
        await self._changes.do(name, self._residents.swap)

    async def stand_in(self, name: str) -> None:
        """Loads an older version of a model that is absent, for what the store serves can't be loaded.

        Raises:
            EdgeRuntimeError: there is none that can be.
        """
        await self._changes.do(name, self._residents.stand_in)

    async def index(self, is_ready_only: bool) -> List[Dict[str, str]]:
        """The repository index: loaded models, and those of the store that aren't."""
        found = self._models.index(is_ready_only)
        for entry in found:
            is_reloaded = self._changes.state(entry["name"]) == "LOADING"
            known = entry["reason"] or self.standings.reason(entry["name"])
            entry["reason"] = "is being loaded anew" if is_reloaded else known
        if is_ready_only:
            return found
        loaded = {entry["name"] for entry in found}
        versions = {**dict.fromkeys(self._models.absent, ""), **await self._versions()}
        for name, version in versions.items():
            if name not in loaded and not self._models.has(name):
                state = self._changes.state(name) or "UNAVAILABLE"
                is_known = version or name in self._models.absent
                reason = self.standings.reason(name) if is_known else "the store has no version of it to serve"
                found.append({"name": name, "version": version, "state": state, "reason": reason})
        return found

    async def _versions(self) -> Dict[str, str]:
        try:
            return await self._loads.versions()
        except EdgeRuntimeError as error:
            logger.error("the store can't be listed: %s", error)
            return {}

    def begin_close(self) -> None:
        """Tells who waits for a load or an unload that the server is shutting down, and begins none any more."""
        self._changes.begin_close()
        self._loads.stop()

    async def close(self, timeout_s: float) -> None:
        """Waits for what is under way, for `timeout_s` at most."""
        self.begin_close()
        await self._changes.close(timeout_s)


def _check_name(name: str) -> None:
    if not MODEL_NAME.fullmatch(name):
        raise InvalidRequestError(
            f"no model can be called {clipped(name)}: expected 1 to 128 letters, digits, '_', '.' or '-'"
        )
