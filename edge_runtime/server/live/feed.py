"""The stream of snapshots: each is made once for all who watch, and none while nobody does."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from typing import Callable, Dict

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.server.board import NO_BOARD, ServedBoard
from edge_runtime.server.live.snapshots import Snapshots
from edge_runtime.server.models import ModelTable

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_MOST_WATCHERS = 16
_GREETING = b"retry: 2000\n\n"
EVENTS_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # for nginx, which would keep events back
    "Server": "edge_runtime",
}

Send = Callable[[bytes], None]


class LiveFeed:
    """Sends events to watchers, once a second; used on the loop's thread. `board` is the one that they tell of."""

    def __init__(self, snapshots: Snapshots, every_s: float = _EVERY_S, board: ServedBoard = NO_BOARD) -> None:
        self.board = board
        self._snapshots = snapshots
        self._every_s = every_s
        self._watchers: Dict[int, Send] = {}
        self._numbers = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._event = b""
        self._is_closed = False

    def document(self) -> bytes:
        """A snapshot as JSON, for programs."""
        return json.dumps(self._snapshots.take(self.board.read())).encode()

    def watch(self, send: Send) -> Callable[[], None]:
        """Sends a snapshot soon and then each second, as server-sent events; gives what ends that.

        The last thing that is sent is empty: the stream is over.

        Raises:
            ServerUnavailableError: as many watch as may, or the server is shutting down.
        """
        if self._is_closed:
            raise ServerUnavailableError("the server is shutting down; ask another one, or again later")
        if len(self._watchers) >= _MOST_WATCHERS:
            raise ServerUnavailableError(f"{_MOST_WATCHERS} watch already; try again later", retry_after_s=10)
        number = next(self._numbers)
        self._watchers[number] = send
        asyncio.get_running_loop().call_soon(self._greet, number)
        return lambda: self._leave(number)

    def end(self) -> None:
        """Ends all streams there are: who may watch comes again."""
        for number, send in list(self._watchers.items()):
            self._leave(number)
            send(b"")

    def close(self) -> None:
        """Ends all streams, and begins none any more."""
        self._is_closed = True
        self.end()

    def _leave(self, number: int) -> None:
        self._watchers.pop(number, None)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task = None
            self._event = b""

    def _greet(self, number: int) -> None:
        if number not in self._watchers:
            return
        self._watchers[number](_GREETING + self._event)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                self._event = b"data: " + self.document() + b"\n\n"
                for send in list(self._watchers.values()):
                    send(self._event)
            except Exception:  # the top frame of the feed
                logger.exception("the live page failed")
                self.end()
            await asyncio.sleep(self._every_s)


def live_feed(models: ModelTable, board: ServedBoard = NO_BOARD) -> LiveFeed:
    """The feed of a server's models and its board."""
    return LiveFeed(Snapshots(models), board=board)
