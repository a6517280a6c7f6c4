"""The models of a store: which are loaded, and how that is changed while they are served."""

from __future__ import annotations

import asyncio
import logging
from typing import Awaitable, Callable, Dict, List, Set

from edge_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigError,
    EdgeRuntimeError,
    GoldenRunError,
    InvalidRequestError,
    PlanCorruptError,
    PlanError,
    PlanNotFoundError,
    PlanTargetError,
    ServerUnavailableError,
    UnknownNameError,
)
from edge_runtime.plan.names import MODEL_NAME
from edge_runtime.server.accelerators import Accelerators
from edge_runtime.server.loads import Loads
from edge_runtime.server.models import ModelTable, ServedModel
from edge_runtime.wire.inference import clipped

logger = logging.getLogger(__name__)

_MOST_WAITING = 64
_REASONS = (
    (PlanCorruptError, "its plan is damaged; build it again"),
    (PlanTargetError, "its plan was built for another board or library; build it for this one"),
    (PlanError, "its plan can't be used; the server's log says why"),
    (ConfigError, "its settings can't be used; the server's log says why"),
    (BackendUnavailableError, "there is no library or device for its plan here; the server's log says which"),
    (GoldenRunError, "it answers otherwise than when it was built; the server's log says how"),
    (BackendError, "the engine library can't load its plan; the server's log says why"),
)


class _Turn:
    """What is done with one model, one thing after another; `users` are those that do or wait to do something."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.state = ""


class ModelRepository:
    """Loads, reloads and unloads models while others are served; used on the loop's thread.

    What is asked of one model is done in order, of different ones at the same time. A model that is loaded anew serves
    on until the new one is ready; requests that are under way end as usual, and its engine is closed after them.
    """

    def __init__(self, models: ModelTable, accelerators: Accelerators, loads: Loads) -> None:
        self._models = models
        self._accelerators = accelerators
        self._loads = loads
        self._turns: Dict[str, _Turn] = {}
        self._reasons: Dict[str, str] = {}
        self._tasks: Set[asyncio.Task[None]] = set()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def load(self, name: str) -> None:
        """Loads the version that the store serves, or loads it anew; a load that fails changes nothing.

        Raises:
            InvalidRequestError: no model can have that name, or its plan can't be loaded here.
            UnknownNameError: there is no plan of it.
            ServerUnavailableError: the server is shutting down, or too much waits to be loaded.
        """
        await self._in_turn(name, self._load)

    async def unload(self, name: str) -> None:
        """Takes no more requests for a model, and closes its engine when those that are under way have ended.

        Raises:
            InvalidRequestError: no model can have that name.
            UnknownNameError: it isn't loaded.
            ServerUnavailableError: the server is shutting down, or too much waits to be loaded.
        """
        await self._in_turn(name, self._unload)

    async def index(self, is_ready_only: bool) -> List[Dict[str, str]]:
        """The repository index: loaded models, and those of the store that aren't."""
        found = self._models.index(is_ready_only)
        for entry in found:
            is_reloaded = self._state(entry["name"]) == "LOADING"
            known = entry["reason"] or self._reasons.get(entry["name"], "")
            entry["reason"] = "is being loaded anew" if is_reloaded else known
        if is_ready_only:
            return found
        loaded = {entry["name"] for entry in found}
        for name, version in (await self._versions()).items():
            if name not in loaded and not self._models.has(name):
                state = self._state(name) or "UNAVAILABLE"
                reason = self._reasons.get(name, "") if version else "the store has no version of it to serve"
                found.append({"name": name, "version": version, "state": state, "reason": reason})
        return found

    def _state(self, name: str) -> str:
        turn = self._turns.get(name)
        return "" if turn is None else turn.state

    async def _versions(self) -> Dict[str, str]:
        try:
            return await self._loads.versions()
        except EdgeRuntimeError as error:
            logger.error("the store can't be listed: %s", error)
            return {}

    def begin_close(self) -> None:
        """Tells who waits for a load or an unload that the server is shutting down, and begins none any more."""
        if not self._closing.done():
            self._closing.set_result(None)
        self._loads.stop()

    async def close(self, timeout_s: float) -> None:
        """Waits for what is under way, for `timeout_s` at most."""
        self.begin_close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _in_turn(self, name: str, change: Callable[[str, _Turn], Awaitable[None]]) -> None:
        """Does something in its turn, to the end even if the client goes away."""
        if not MODEL_NAME.fullmatch(name):
            raise InvalidRequestError(
                f"no model can be called {clipped(name)}: expected 1 to 128 letters, digits, '_', '.' or '-'"
            )
        if self._closing.done():
            raise _shutting_down()
        if len(self._tasks) >= _MOST_WAITING:
            raise ServerUnavailableError(f"{_MOST_WAITING} loads and unloads are under way; try again later")
        task = asyncio.ensure_future(self._take_turn(name, change))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait([task, self._closing], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _shutting_down()
        task.result()

    async def _take_turn(self, name: str, change: Callable[[str, _Turn], Awaitable[None]]) -> None:
        turn = self._turns.setdefault(name, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                await change(name, turn)
        finally:
            turn.state = ""
            turn.users -= 1
            if not turn.users:
                del self._turns[name]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # is told to the client, if that is still there

    async def _load(self, name: str, turn: _Turn) -> None:
        turn.state = "LOADING"
        try:
            made = await self._loads.begin(name)
        except ServerUnavailableError:
            raise
        except PlanNotFoundError as error:
            logger.info("model %s isn't loaded: %s", name, error)
            raise UnknownNameError(f"model {name!r}: the store has no plan of it to serve") from None
        except EdgeRuntimeError as error:
            reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "the server's log says why")
            logger.error("model %s isn't loaded: %s", name, error)
            self._reasons[name] = f"can't be loaded: {reason}"
            raise InvalidRequestError(f"model {name!r} can't be loaded: {reason}") from None
        if self._closing.done():
            raise _shutting_down()
        model = self._accelerators.add(made)[0]
        before = self._models.put(model)
        self._reasons.pop(name, None)
        logger.info("model %s: version %s is loaded", name, model.version)
        if before is not None:
            await self._retire(before)

    async def _unload(self, name: str, turn: _Turn) -> None:
        model = self._models.remove(name)
        turn.state = "UNLOADING"
        await self._retire(model)
        self._reasons[name] = "unloaded"
        logger.info("model %s: version %s is unloaded", name, model.version)

    async def _retire(self, model: ServedModel) -> None:
        await self._models.ended(model)
        await self._accelerators.remove(model)
        await model.lent.idle()
        await self._loads.close_engine(model.engine)


def _shutting_down() -> ServerUnavailableError:
    return ServerUnavailableError("the server is shutting down; ask another one")
