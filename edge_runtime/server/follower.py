"""Keeps models as their store has them: looks for other versions, loads them, and tries again what failed."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Callable, Dict, Tuple

from edge_runtime.errors import EdgeRuntimeError, PlanCorruptError, PlanTargetError
from edge_runtime.server.keeping import Keeping
from edge_runtime.server.load_reasons import is_transient
from edge_runtime.server.loads import Loads, Stamp
from edge_runtime.server.models import ModelTable
from edge_runtime.server.repository import ModelRepository

logger = logging.getLogger(__name__)

_MENDED_BY_BUILDING = (PlanTargetError, PlanCorruptError)
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0


class _Kept:
    """What was seen of one model: its stamp, and when to try again what may only lack something for a while."""

    def __init__(self) -> None:
        self.stamp: Stamp | None = None
        self.retry_at_s: float | None = None
        self.retries = 0
        self.has_asked = False

    def is_due(self, stamp: Stamp, now_s: float) -> bool:
        return stamp != self.stamp or (self.retry_at_s is not None and now_s >= self.retry_at_s)

    def failed(self, error: EdgeRuntimeError, now_s: float) -> None:
        self.retry_at_s = None
        if is_transient(error):
            self.retry_at_s = now_s + min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2**self.retries)
            self.retries = min(self.retries + 1, 16)

    def succeeded(self) -> None:
        self.retry_at_s, self.retries, self.has_asked = None, 0, False


class Follower:
    """Looks at the store now and then, and lets the repository follow it; used on the loop's thread.

    A version that can't be loaded is tried again when the store changes; or, where memory or a device was missing,
    after 1 s, then 2 s and so on, up to a minute. What is absent meanwhile is stood in for.
    """

    def __init__(
        self,
        models: ModelTable,
        repository: ModelRepository,
        loads: Loads,
        keeping: Keeping,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._repository = repository
        self._loads = loads
        self._keeping = keeping
        self._clock = clock
        self._kept: Dict[str, _Kept] = {}
        self._tasks: Dict[str, asyncio.Task[None]] = {}
        self._problem = ""
        for name, refusal in keeping.refused.items():
            self._kept[name] = _Kept()
            self._note_failure(name, refusal.error)

    @property
    def under_way(self) -> Tuple[asyncio.Task[None], ...]:
        """What was begun and isn't done."""
        return tuple(self._tasks.values())

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        try:
            while True:
                await self._look_safely()
                await asyncio.sleep(self._keeping.interval_s)
        finally:
            for task in self.under_way:
                task.cancel()

    async def refresh(self) -> None:
        """Looks now, tries again whatever failed, and returns when that is done."""
        for kept in self._kept.values():
            kept.retry_at_s = self._clock()
        await self._look_safely()
        await asyncio.gather(*self.under_way, return_exceptions=True)
        await self._look_after_rebuilds()

    async def _look_safely(self) -> None:
        try:
            await self.look()
        except Exception:  # the top frame of the follower
            logger.exception("the store can't be looked at")

    async def look(self) -> None:
        """Begins what there is to be done; a look at a store that can't be read is left out."""
        try:
            stamps = await self._loads.stamps()
        except EdgeRuntimeError as error:
            self._note_problem(str(error))
            return
        self._note_problem("")
        now_s = self._clock()
        for name in {*stamps, *self._kept}:
            stamp = stamps.get(name, Stamp(""))
            if not self._is_followed(name) or name in self._tasks:
                continue
            kept = self._kept.setdefault(name, _Kept())
            if kept.stamp is None and self._is_as_at_the_start(name, stamp):
                kept.stamp = stamp
            if kept.is_due(stamp, now_s):
                kept.stamp, kept.retry_at_s = stamp, None
                self._begin(name, kept)
        await self._look_after_rebuilds()

    def _note_problem(self, problem: str) -> None:
        """Says what keeps it from looking, once: it looks each second, for as long as a disk may be gone."""
        before, self._problem = self._problem, problem
        if problem and problem != before:
            logger.error("the store can't be looked at: %s", problem)
        elif before and not problem:
            logger.warning("the store can be looked at again")

    def _is_followed(self, name: str) -> bool:
        """What stays up is followed while something is wrong with it; else nothing is that wasn't asked for."""
        if not self._keeping.keeps(name):
            return False
        standing = self._repository.standings.of(name)
        return self._keeping.is_following or (standing is not None and standing.error is not None)

    def _is_as_at_the_start(self, name: str, stamp: Stamp) -> bool:
        """Whether the store has what was loaded, or couldn't be, when the server began."""
        refusal = self._keeping.refused.get(name)
        if refusal is not None:
            return refusal.version == stamp.version
        return bool(stamp.version) and self._models.has(name, stamp.version)

    def _begin(self, name: str, kept: _Kept) -> None:
        task = asyncio.ensure_future(self._update(name, kept))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name))

    async def _update(self, name: str, kept: _Kept) -> None:
        try:
            await self._repository.swap(name)
            kept.succeeded()
        except EdgeRuntimeError as error:
            self._note_failure(name, error)
            if self._keeping.is_staying_up and not self._models.has(name):
                await self._stand_in(name)
        except Exception:  # the top frame of this task
            logger.exception("model %s: can't be kept as the store has it", name)

    async def _stand_in(self, name: str) -> None:
        standing = self._repository.standings.of(name)
        if standing is None or standing.error is None:
            return
        try:
            await self._repository.stand_in(name)
        except EdgeRuntimeError as error:
            logger.warning("model %s: nothing stands in for it: %s", name, error)

    def _note_failure(self, name: str, error: EdgeRuntimeError) -> None:
        kept, rebuilds, standing = self._kept[name], self._keeping.rebuilds, self._repository.standings.of(name)
        if standing is not None and standing.is_given_way:
            return  # it is loaded when it is asked for
        kept.failed(error, self._clock())
        if isinstance(error, _MENDED_BY_BUILDING) and rebuilds is not None:
            kept.has_asked = rebuilds.ask(name)

    async def _look_after_rebuilds(self) -> None:
        rebuilds = self._keeping.rebuilds
        if rebuilds is None:
            return
        for name in [name for name, kept in self._kept.items() if kept.has_asked and name not in self._tasks]:
            text = await asyncio.get_running_loop().run_in_executor(None, rebuilds.progress, name)
            standing = self._repository.standings.of(name)
            if standing is not None and standing.error is not None:
                self._repository.standings.progresses(name, text or "a build for this board was asked for")
