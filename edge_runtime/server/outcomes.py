"""What the lanes have done, on its way to the loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Callable, Deque, Sequence, Tuple

from edge_runtime.server.planner import GivenUp
from edge_runtime.server.run import Run

Emit = Callable[["Run | None", Sequence[GivenUp]], None]

_PERIOD_S = 0.1


class Outcomes:
    """Runs that have ended, and requests that were given up meanwhile, for `emit` on the loop's thread.

    Where all answers of a run are delivered, the loop isn't woken for it: it is emitted with the next outcome that the
    loop is woken for, or within 0.2 s. `is_idle` says that no run is under way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, emit: Emit, is_idle: Callable[[], bool]) -> None:
        self._loop = loop
        self._emit = emit
        self._is_idle = is_idle
        self._ended: Deque[Tuple[Run | None, Sequence[GivenUp]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_urgent = False
        self._was_idle = False

    def expect(self) -> None:
        """Says, on the loop's thread, that a run may be delivered."""
        self._was_idle = False
        if self._timer is None and not self._is_urgent:
            self._timer = self._loop.call_later(_PERIOD_S, self._emit_late)

    def report(self, run: Run | None, given_up: Sequence[GivenUp], is_delivered: bool) -> None:
        """Takes in, on any thread, what is to be emitted."""
        self._ended.append((run, given_up))
        if is_delivered and not given_up and not self._is_urgent:  # `hurry` emits when it has set that
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle)

    def hurry(self) -> None:
        """Has everything emitted at once, from here on."""
        self._is_urgent = True
        if self._timer is not None:
            self._timer.cancel()
        self._settle()

    def _settle(self) -> None:
        while self._ended:
            self._emit(*self._ended.popleft())

    def _emit_late(self) -> None:
        was_idle, self._was_idle = self._was_idle, self._is_idle()
        is_over = was_idle and self._was_idle  # a lane reports a moment after it has become idle
        self._timer = None if is_over else self._loop.call_later(_PERIOD_S, self._emit_late)
        self._settle()
