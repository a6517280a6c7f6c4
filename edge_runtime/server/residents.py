"""The models that are loaded, and each way in which that changes; what a change does, not when."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import Dict

from edge_runtime.errors import DeviceLostError, EdgeRuntimeError, InsufficientMemoryError, PlanNotFoundError
from edge_runtime.server.absence import Absence
from edge_runtime.server.accelerators import Accelerators, Prepared
from edge_runtime.server.changes import Changes, Turn
from edge_runtime.server.eviction import next_to_give_way
from edge_runtime.server.keeping import Keeping
from edge_runtime.server.loads import Loads
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.server.standings import Standings

logger = logging.getLogger(__name__)

_AGAIN_S = 1.0


class Residents:
    """Loads plans into a table and takes them out of it; used on the loop's thread, each change in its turn.

    Attributes:
        changes: where the turns are taken.
        standings: which models aren't served as the store has them.
    """

    def __init__(self, models: ModelTable, accelerators: Accelerators, loads: Loads, keeping: Keeping) -> None:
        self.changes = Changes()
        self.standings = Standings(models)
        self._models = models
        self._accelerators = accelerators
        self._loads = loads
        self._keeping = keeping
        self._load_s: Dict[str, float] = {}
        self._not_before_s: Dict[str, float] = {}
        for name, refusal in keeping.refused.items():
            self._was_refused_at_the_start(name, refusal.version, refusal.error)

    async def swap(self, name: str, turn: Turn) -> None:
        """Loads the version that the store serves, unless it is loaded, or nobody wants it to be."""
        version, standing = await self._loads.served(name), self.standings.of(name)
        if version and self._models.has(name, version):
            self.standings.unchanged(name)
        elif self._models.has(name) or standing is None or standing.error is not None:
            await self.load(name, turn)

    async def load(self, name: str, turn: Turn) -> None:
        """Loads the version that the store serves, and serves it once it is ready; a failure changes nothing."""
        turn.state = "LOADING"
        loop = asyncio.get_running_loop()
        version, start_s = await self._loads.served(name), loop.time()
        try:
            made = await self._fitting(name, version)
        except EdgeRuntimeError as error:
            self.changes.check_open()
            self._refused(name, version, error)
            if isinstance(error, DeviceLostError):
                self._accelerators.fail()
            raise
        self._load_s[name] = loop.time() - start_s
        before = self._put(made)
        self.standings.loaded(name, before is not None)
        logger.info("model %s: version %s is loaded", name, made.engine.info.version)
        if before is not None:
            await self._retire(before)

    async def stand_in(self, name: str, turn: Turn) -> None:
        """Loads an older version of a model that is absent."""
        if self._models.has(name):
            return
        turn.state = "LOADING"
        made = await self._loads.begin(name, await self._loads.served(name), is_stand_in=True)
        self._put(made)
        self.standings.stands_in(name)
        logger.warning("model %s: version %s stands in", name, made.engine.info.version)

    def _put(self, made: Prepared) -> ServedModel | None:
        self.changes.check_open()
        return self._models.put(self._accelerators.add(made)[0])

    def _refused(self, name: str, version: str, error: EdgeRuntimeError) -> None:
        is_kept = self._keeping.keeps(name)
        if isinstance(error, PlanNotFoundError) and not is_kept:
            logger.info("model %s isn't loaded: %s", name, error)
            return
        standing = self.standings.of(name)
        if isinstance(error, InsufficientMemoryError) and standing is not None and standing.is_given_way:
            logger.warning("model %s isn't loaded again: %s", name, error)
            self._not_before_s[name] = asyncio.get_running_loop().time() + _AGAIN_S
            return
        logger.error("model %s isn't loaded: %s", name, error)
        self.standings.refused(name, version, error, is_kept)

    def _was_refused_at_the_start(self, name: str, version: str, error: EdgeRuntimeError) -> None:
        if self._keeping.evict_idle_s is not None and isinstance(error, InsufficientMemoryError):
            self._gives_way(name)
            return
        self.standings.refused(name, version, error, is_kept=True)
        if self._models.has(name):
            self.standings.stands_in(name)

    async def _fitting(self, name: str, version: str) -> Prepared:
        """A load for which others give way, where they may and it is of use."""
        while True:
            try:
                return await self._loads.begin(name, version)
            except InsufficientMemoryError as error:
                if not await self._has_made_room(name, error.short_nbytes):
                    raise

    async def _has_made_room(self, name: str, short_nbytes: int) -> bool:
        idle_s = self._keeping.evict_idle_s
        if idle_s is None:
            return False
        others = [each for each in self._models if each.name != name and self.changes.is_free(each.name)]
        victim = next_to_give_way(others, self._loads.ledger.held, short_nbytes, idle_s)
        if victim is None:
            return False
        await self.changes.do_here(victim.name, self._give_way)
        return True

    async def _give_way(self, name: str, turn: Turn) -> None:
        model = self._models.remove(name)
        turn.state = "UNLOADING"
        self._gives_way(name)
        logger.info("model %s: version %s gives way to others", name, model.version)
        await self._retire(model)
        self._loads.ledger.forget(name)

    def _gives_way(self, name: str) -> None:
        retry_s = math.ceil(self._load_s.get(name, _AGAIN_S))
        text = "isn't loaded, for others needed its memory; it is loaded again when it is asked for"
        self.standings.gave_way(name, Absence(text, retry_s, partial(self._demanded, name)))

    def _demanded(self, name: str) -> None:
        """Loads a model again that somebody wants to run, and once a second at most if there is no room for it."""
        is_too_soon = asyncio.get_running_loop().time() < self._not_before_s.get(name, 0.0)
        if self.changes.is_free(name) and not self.changes.is_closing and not is_too_soon:
            self.changes.begin(name, self.load)

    async def unload(self, name: str, turn: Turn) -> None:
        """Takes no more requests for a model, and closes its engine behind those that are under way."""
        if name in self._models.absent:
            self.standings.unloaded(name)
            return
        model = self._models.remove(name)
        turn.state = "UNLOADING"
        await self._retire(model)
        self._loads.ledger.forget(name)
        self.standings.unloaded(name)
        logger.info("model %s: version %s is unloaded", name, model.version)

    async def _retire(self, model: ServedModel) -> None:
        await self._models.ended(model)
        await self._accelerators.remove(model)
        await model.lent.idle()
        await self._loads.close_engine(model.engine)
