"""What is done with models while they are served: one thing after another with each, beside each other with several."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable, Dict, Set

from edge_runtime.errors import ServerUnavailableError

_MOST_WAITING = 64


class Turn:
    """What is done with one model; `users` are those that do or wait to do something, `state` is what is told."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.state = ""


Change = Callable[[str, Turn], Awaitable[None]]


class Changes:
    """Changes of models, each in its turn; used on the loop's thread."""

    def __init__(self) -> None:
        self._turns: Dict[str, Turn] = {}
        self._tasks: Set[asyncio.Task[None]] = set()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_closing(self) -> bool:
        """Whether nothing is begun any more."""
        return self._closing.done()

    def state(self, name: str) -> str:
        """What is done with a model now; "" if nothing is."""
        turn = self._turns.get(name)
        return "" if turn is None else turn.state

    def is_free(self, name: str) -> bool:
        """Whether nothing is done with a model, nor waits to be."""
        return name not in self._turns

    async def do(self, name: str, change: Change) -> None:
        """Does something in its turn, to the end even if who asked for it goes away.

        Raises:
            ServerUnavailableError: the server is shutting down, or too much waits.
        """
        self.check_open()
        if len(self._tasks) >= _MOST_WAITING:
            raise ServerUnavailableError(f"{_MOST_WAITING} loads and unloads are under way; try again later")
        task = self.begin(name, change)
        await asyncio.wait([task, self._closing], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise shutting_down()
        task.result()

    def begin(self, name: str, change: Change) -> asyncio.Task[None]:
        """Does something in its turn; nobody need wait for it."""
        task = asyncio.ensure_future(self.do_here(name, change))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def do_here(self, name: str, change: Change) -> None:
        """Does something in its turn, as a part of what its caller does; begun at once where the model `is_free`."""
        turn = self._turns.setdefault(name, Turn())
        turn.users += 1
        try:
            async with turn.lock:
                await change(name, turn)
        finally:
            turn.state = ""
            turn.users -= 1
            if not turn.users:
                del self._turns[name]

    def check_open(self) -> None:
        """Raises ServerUnavailableError once the server is shutting down."""
        if self._closing.done():
            raise shutting_down()

    def begin_close(self) -> None:
        """Tells those who wait that the server is shutting down, and begins nothing any more."""
        if not self._closing.done():
            self._closing.set_result(None)

    async def close(self, timeout_s: float) -> None:
        """Waits for what is under way, for `timeout_s` at most."""
        self.begin_close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # is told to who asked, if that is still there


def shutting_down() -> ServerUnavailableError:
    """What is told while the server shuts down."""
    return ServerUnavailableError("the server is shutting down; ask another one")
