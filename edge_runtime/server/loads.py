"""Plans that are loaded while others are served, on threads beside the loop's."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Protocol, Set

from edge_runtime.engine.engine import Engine
from edge_runtime.errors import ServerUnavailableError
from edge_runtime.server.accelerators import Prepared

_AT_ONCE = 2


class PlanSource(Protocol):
    """Where plans come from; any thread may call it."""

    def versions(self) -> Dict[str, str]:
        """The models that there are, each with the version that would be loaded ("": none can be)."""

    def load(self, name: str) -> Prepared:
        """A warmed engine whose runs were timed; raises EdgeRuntimeError."""

    def tidy(self) -> None:
        """Gives memory back to the system that an engine which was closed has left."""


class Loads:
    """Loads models of a source, up to two at once, and keeps the engines until they are closed.

    A load can't be broken off: what is under way at the end of the process is left behind.
    """

    def __init__(self, source: PlanSource) -> None:
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

    def begin(self, name: str) -> asyncio.Future[Prepared]:
        """What the source loads; its engine is this object's to close if it isn't closed before.

        Raises:
            ServerUnavailableError: it was stopped.
        """
        with self._lock:
            self._check_open()
        return asyncio.get_running_loop().run_in_executor(self._pool, self._load, name)

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

    def _load(self, name: str) -> Prepared:
        with self._lock:
            self._check_open()
            self._under_way += 1
        try:
            made = self._source.load(name)
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
