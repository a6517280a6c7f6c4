"""What a server does while nobody asks: with permission it lets clocks down that are held, else it says how."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, List, Sequence

from edge_runtime.device.held_clocks import HeldClock, held_clocks
from edge_runtime.errors import ConfigError
from edge_runtime.server.models import ModelTable
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.statistics import Totals

logger = logging.getLogger(__name__)

_LONGEST_LOOK_S = 1.0
_RELAXED = 4


class ReleasedClocks:
    """Lets clocks down and holds them again; its methods are called one at a time, on any thread."""

    def __init__(self, root: Path, is_permitted: bool) -> None:
        self._root = root
        self._is_permitted = is_permitted
        self._released: List[HeldClock] = []
        self._proposed: Sequence[str] = ()

    def release(self) -> None:
        """Lets down what is held, or proposes to, once for the same commands."""
        held = held_clocks(self._root)
        if not held:
            logger.info("idle: no clock is held that could be released")
            return
        if not self._is_permitted:
            self._propose("it isn't permitted (--allow-power-changes)", held)
            return
        for clock in held:
            try:
                clock.release()
                self._released.append(clock)
            except ConfigError as error:
                self._propose(str(error), held)
                break
        if self._released:
            text = ", ".join(f"{clock.name} from {clock.held} to {clock.lowest}" for clock in self._released)
            logger.warning("idle: clocks may fall: %s", text)

    def hold(self) -> None:
        """Holds again what was let down; each clock is tried, whatever becomes of the others."""
        released, self._released = self._released, []
        for clock in released:
            try:
                clock.hold()
            except ConfigError as error:
                logger.error("after idling: %s", error)
        if released:
            logger.warning("no longer idle: clocks are held again: %s", ", ".join(clock.name for clock in released))

    def _propose(self, why: str, held: Sequence[HeldClock]) -> None:
        commands = [clock.command(clock.lowest) for clock in held]
        if commands != self._proposed:
            self._proposed = commands
            logger.warning(
                "idle: clocks that are held could be released, but %s; by hand: %s", why, "; ".join(commands)
            )


class Idle:
    """Whether anybody asked in the last `idle_after_s`, and what follows from that; used on the loop's thread.

    The first request of whatever model ends it. That request doesn't wait for clocks: they are held again beside it.

    Args:
        root: below which the board's files are.
        clock: s, monotonic.
    """

    def __init__(
        self,
        models: ModelTable,
        settings: ServerSettings,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_idle = False
        self._models = models
        self._is_on = settings.idle == "release"
        self._after_s = settings.idle_after_s
        self._clock = clock
        self._clocks = ReleasedClocks(root, settings.allow_power_changes)
        self._thread = ThreadPoolExecutor(1, "idle")  # one, so that what is asked for first is done first
        self._seen = -1
        self._busy_s = clock()

    def relaxed(self, every_s: float) -> float:
        """How often something is to be looked after that is usually looked after every so many seconds."""
        return _RELAXED * every_s if self.is_idle else every_s

    def look(self) -> None:
        """Takes note of what was asked since the last look, and begins to idle if that was long ago."""
        if not self._is_on or self.is_idle:
            return
        under_way = sum(model.under_way.count for model in self._models)
        seen = sum(_asked(model.statistics.totals) for model in self._models)
        if under_way or seen != self._seen:
            self._seen, self._busy_s = seen, self._clock()
        elif self._clock() - self._busy_s >= self._after_s:
            self.is_idle = True
            self._models.on_request = self._wake
            self._thread.submit(self._clocks.release)

    async def watch(self) -> None:
        """Looks ever again."""
        while self._is_on:
            self.look()
            await asyncio.sleep(min(_LONGEST_LOOK_S, self._after_s / _RELAXED))

    def close(self) -> None:
        """Holds again what was let down, and waits for that; idempotent."""
        if self.is_idle:
            self._models.on_request = None
            self._wake()
        self._thread.shutdown()

    def _wake(self) -> None:
        self.is_idle = False
        self._busy_s = self._clock()
        self._thread.submit(self._clocks.hold)


def _asked(totals: Totals) -> int:
    return totals.success + sum(totals.failures.values())
