"""Plans that are loaded while others are served, on threads beside the loop's."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Dict, NamedTuple, Protocol, Set

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.server.accelerators import Prepared
from edge_runtime.server.memory.ledger import MemoryLedger, MemoryLimits

_AT_ONCE = 2


class Stamp(NamedTuple):
    """What changes when another version is served ("": none can be), or when that one's files are put there anew."""

    version: str
    changed_ns: int = 0


class PlanSource(Protocol):
    """Where plans come from; any thread may call it."""

    def stamps(self) -> Dict[str, Stamp]:
        """The models that there are; raises EdgeRuntimeError."""

    def served(self, name: str) -> str:
        """The version of a model that would be loaded ("": none can be)."""

    def versions(self) -> Dict[str, str]:
        """The models that there are, each with the version that would be loaded ("": none can be)."""

    def load(self, name: str, version: str) -> Prepared:
        """A warmed engine of a version ("": the one that is served), whose runs were timed; raises EdgeRuntimeError."""

    def load_stand_in(self, name: str, version: str) -> Prepared:
        """The newest version that loads of those before that one ("": of all); raises EdgeRuntimeError."""

    def tidy(self) -> None:
        """Gives memory back to the system that an engine which was closed has left."""


class Loads:
    """Loads models of a source, up to two at once, and keeps the engines until they are closed.

    A load can't be broken off: what is under way at the end of the process is left behind.

    Attributes:
        ledger: what memory models have.
    """

    def __init__(self, source: PlanSource, ledger: MemoryLedger | None = None) -> None:
        self.ledger = MemoryLedger(MemoryLimits()) if ledger is None else ledger
        self._source = source
        self._pool = ThreadPoolExecutor(_AT_ONCE, "load")
        self._lock = threading.Lock()
        self._under_way = 0
        self._is_closed = False
        self._engines: Set[Engine] = set()

    @property
    def are_under_way(self) -> bool:
        """Whether a thread loads something."""
        with self._lock:
            return self._under_way > 0

    async def versions(self) -> Dict[str, str]:
        """What the source has; raises EdgeRuntimeError."""
        return await asyncio.get_running_loop().run_in_executor(None, self._source.versions)

    async def stamps(self) -> Dict[str, Stamp]:
        """What the source has now; raises EdgeRuntimeError."""
        return await asyncio.get_running_loop().run_in_executor(None, self._source.stamps)

    async def served(self, name: str) -> str:
        """The version of a model that would be loaded ("": none can be)."""
        return await asyncio.get_running_loop().run_in_executor(None, self._source.served, name)

    def begin(self, name: str, version: str, is_stand_in: bool = False) -> asyncio.Future[Prepared]:
        """What the source loads, that version or one to stand in for it.

        Its engine is this object's to close if it isn't closed before.

        Raises:
            ServerUnavailableError: it was stopped.
        """
        with self._lock:
            self._check_open()
        load = self._source.load_stand_in if is_stand_in else self._source.load
        return asyncio.get_running_loop().run_in_executor(self._pool, self._load, partial(load, name, version))

    async def close_engine(self, engine: Engine) -> None:
        """Closes an engine that nothing uses any more, whoever made it."""
        await asyncio.get_running_loop().run_in_executor(None, self._close, engine)

    def stop(self) -> None:
        """Begins no more loads; what they still bring is closed at once."""
        with self._lock:
            self._is_closed = True
        self._pool.shutdown(wait=False)

    def close(self) -> None:
        """Closes all engines that were loaded and aren't closed yet; idempotent."""
        self.stop()
        with self._lock:
            engines, self._engines = self._engines, set()
        for engine in engines:
            engine.close()

    def _load(self, load: Callable[[], Prepared]) -> Prepared:
        with self._lock:
            self._check_open()
            self._under_way += 1
        try:
            made = load()
            with self._lock:
                if not self._is_closed:
                    self._engines.add(made.engine)
                    return made
            made.engine.close()
            raise _closed()
        finally:
            with self._lock:
                self._under_way -= 1

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()

    def _close(self, engine: Engine) -> Any:
        engine.close()
        with self._lock:
            self._engines.discard(engine)
        self._source.tidy()


def _closed() -> ServerUnavailableError:
    return ServerUnavailableError("the server is shutting down; ask another one")
