"""The stream of snapshots: each is made once for all who watch, and none while nobody does."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Callable, Dict, Iterator

from edge_runtime.errors import ServerUnavailableError
from edge_runtime.server.live.snapshots import Snapshots
from edge_runtime.server.models import ModelTable

_EVERY_S = 1.0
_MOST_WATCHERS = 16
EVENTS_TYPE = "text/event-stream"

Send = Callable[[bytes], None]


class LiveFeed:
    """Sends events to watchers, once a second; used on the loop's thread."""

    def __init__(self, snapshots: Snapshots, every_s: float = _EVERY_S) -> None:
        self._snapshots = snapshots
        self._every_s = every_s
        self._watchers: Dict[int, Send] = {}
        self._numbers: Iterator[int] = iter(range(1 << 62))
        self._timer: asyncio.TimerHandle | None = None

    def document(self) -> bytes:
        """One snapshot as JSON, for programs."""
        return json.dumps(self._snapshots.take()).encode()

    def watch(self, send: Send) -> Callable[[], None]:
        """Sends a snapshot soon and then each second, as server-sent events; gives what ends that.

        Raises:
            ServerUnavailableError: as many watch as may.
        """
        if len(self._watchers) >= _MOST_WATCHERS:
            raise ServerUnavailableError(f"{_MOST_WATCHERS} watch already; try again later", retry_after_s=10)
        number = next(self._numbers)
        self._watchers[number] = send
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(self._every_s, self._tick)
        loop.call_soon(self._greet, number)
        return lambda: self._leave(number)

    def _leave(self, number: int) -> None:
        self._watchers.pop(number, None)
        if not self._watchers and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._snapshots.forget()

    def _greet(self, number: int) -> None:
        if number in self._watchers:
            self._watchers[number](b"retry: 2000\n\n" + self._event())

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._tick)
        event = self._event()
        for send in list(self._watchers.values()):
            send(event)

    def _event(self) -> bytes:
        return b"data: " + self.document() + b"\n\n"


def live_feed(models: ModelTable) -> LiveFeed:
    """The feed of a server's models."""
    return LiveFeed(Snapshots(models, time.perf_counter_ns))
